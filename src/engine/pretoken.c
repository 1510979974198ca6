/* SPDX-License-Identifier: MIT */
/* The families of pre-tokenizers and the cutting. The expressions are facts about models; each family gives the pieces
 * that llama.cpp gives for the same name (public source: llama.cpp, src/llama-vocab.cpp and src/unicode.cpp), which for
 * a few families are not those of the model's own tokenizer: docs/tokenizers.md.
 *
 * Notation is PCRE2's, but \s and \S are replaced, since Unicode's white space and PCRE2's differ by U+180E.
 * No expression may try a run of characters again from each of its characters: a megabyte of blanks is a text, too. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/pretoken.h"

#include "engine/utf8.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

struct mb_splitter {
    const struct mb_pretoken *family;
    pcre2_code *codes[MB_PRETOKEN_STEPS_MAX];
    unsigned n;
};

/* Unicode's property White_Space. */
#define WHITE "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
/* 's and its like, in any case. */
#define SHORT "'(?:[sStTmMdD]|[rRvV][eE]|[lL][lL])"
/* What most families end with: newlines with the white space before them; white space but for its last character, which
 * belongs to the word behind it. */
#define BLANKS "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define OTHERS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" BLANKS
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
/* Words as of gpt-4o: capitals, then small letters. Letters without ASCII count as either. */
#define UPPER "[^\\P{L}a-z]"
#define LOWER "[^\\P{L}A-Z]"
#define CASED(upper, lower, tail)                                                                                      \
    "[^\\r\\n\\p{L}\\p{N}]?" upper "*" lower "+" tail "|[^\\r\\n\\p{L}\\p{N}]?" upper "+" lower "*" tail
#define CASED_OTHERS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" BLANKS
/* Letters with a case, as far as Unicode had them when DeepSeek made its first tokenizer. */
#define DEEPSEEK_CASED                                                                                                 \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}"                    \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}"             \
    "\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}"                    \
    "\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"                  \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}"                  \
    "\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}"          \
    "\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}"         \
    "\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"                   \
    "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}"                    \
    "\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}"                    \
    "\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}"                   \
    "\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}"                  \
    "\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}"                \
    "\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}"        \
    "\\x{1E900}-\\x{1E943}"
/* U+0800 to U+4E00 without white space, and Chinese and Korean. */
#define DEEPSEEK_CJK                                                                                                   \
    "[\\x{800}-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}" \
    "\\x{3001}-\\x{9FA5}\\x{AC00}-\\x{D7FF}]+"
#define CHINESE_KANA "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{30FF}]+"
#define HAN                                                                                                            \
    "\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{20000}-\\x{2A6DF}\\x{2A700}-\\x{2EBEF}\\x{F900}-\\x{FAFF}"              \
    "\\x{2F800}-\\x{2FA1F}"
/* A mark and the Latin word behind it. */
#define MARKED "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"

static const char gpt2[] = "'(?:[stmd]|re|ve|ll)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
static const char llama3[] = SHORT "|" WORD "|\\p{N}{1,3}|" OTHERS;
static const char qwen2[] = SHORT "|" WORD "|\\p{N}|" OTHERS;
static const char deepseek3[] = MARKED "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" BLANKS;
static const char gpt4o[] = CASED(UPPER, LOWER, "(?:" SHORT ")?") "|\\p{N}{1,3}|" CASED_OTHERS;
static const char poro[] = " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+";
static const char lines[] = "[^\\n]+|\\n+";
static const char digit[] = "\\p{N}";
static const char digits[] = "\\p{N}+";
static const char three_digits[] = "\\p{N}{1,3}";
/* Digits in threes from the right, which no expression does in linear time. llama.cpp leaves what stands before the
 * digits with the first of them; superbpe cuts there as well, but only before whole threes of ASCII digits. */
static const char thousands[] = "\\p{N}+(?#threes)";
static const char ascii_thousands[] = "[0-9]+(?#threes)";
/* Jais 2 takes white space by 512 characters. Cut first, no run is searched for its newlines again from each of these. */
static const char long_blanks[] = "\\s{1024,}+";

static const struct mb_pretoken families[] = {
    {.names = "default", .steps = {"[\\p{P}$+<=>^~|]+", gpt2, digits, "[0-9][0-9][0-9]"}},
    {.names = "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     .steps = {llama3},
     .add_bos = 1,
     .ignore_merges = 1},
    {.names = "dbrx smaug-bpe chatglm-bpe", .steps = {llama3}},
    {.names = "glm4 glm5", .steps = {llama3}, .ignore_merges = 1},
    {.names = "jais-2",
     .steps = {long_blanks,
               SHORT "|" WORD "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|"
               "\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|"
               "\\s{1,2}(?!\\S)|\\s"}},
    {.names = "minicpm5",
     .steps = {three_digits, SHORT "|" WORD "|\\p{N}+|" OTHERS},
     .ignore_merges = 1},
    {.names = "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert jina-v1-en jina-v2-code "
              "roberta-bpe mpt olmo jais trillion granite-docling exaone4",
     .steps = {gpt2}},
    {.names = "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", .steps = {digit, gpt2}},
    {.names = "falcon", .steps = {"[\\p{P}$+<=>^~|`]+", gpt2, "[0-9][0-9][0-9]"}},
    {.names = "qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 megrez hunyuan solar-open grok-2", .steps = {qwen2}},
    {.names = "qwen35",
     .steps = {SHORT "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" BLANKS}},
    {.names = "ufakzeka", .steps = {WORD "|\\p{N}|" OTHERS}},
    {.names = "laguna", .steps = {lines, qwen2}},
    {.names = "bailingmoe bailingmoe2 llada-moe",
     .steps = {SHORT "|" WORD "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
    {.names = "seed-coder", .steps = {SHORT "|" WORD "|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" BLANKS}},
    {.names = "exaone-moe",
     .steps = {SHORT "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|"
                     "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
    {.names = "gpt-4o llama4 kanana2 talkie minimax-m2", .steps = {gpt4o}},
    {.names = "tekken",
     .steps = {CASED(UPPER, LOWER, "") "|\\p{N}|" CASED_OTHERS},
     .add_bos = 1,
     .ignore_merges = 1},
    {.names = "granite-embed-multi-97m",
     .steps = {CASED("[^\\p{C}\\p{N}\\p{P}\\p{S}\\p{Z}a-z]", "[^\\p{C}\\p{N}\\p{P}\\p{S}\\p{Z}A-Z]", "(?:" SHORT ")?")
               "|\\p{N}{1,3}|" CASED_OTHERS},
     .ignore_merges = 1},
    {.names = "tiny_aya cohere2moe",
     .steps = {thousands, "[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+(?:" SHORT ")?|\\p{N}{1,3}|" CASED_OTHERS}},
    {.names = "youtu",
     .steps = {"[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}\\x{2019}\\x{2014}"
               "\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|[\\x{3105}-\\x{312F}]+|" CHINESE_KANA,
               "[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+(?:" SHORT ")?|\\p{N}|" CASED_OTHERS},
     .ignore_merges = 1},
    {.names = "kimi-k2",
     .steps = {"[" HAN "]+|[^\\r\\n\\p{L}\\p{N}]?[^\\P{L}" HAN "]+(?:" SHORT ")?|\\p{N}{1,3}|" OTHERS}},
    {.names = "deepseek-llm",
     .steps = {"[\\r\\n]", "\\s?[" DEEPSEEK_CASED "]+",
               "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3001}\\x{3002}]+",
               "\\s++(?:\\z|(*SKIP)(*FAIL))", DEEPSEEK_CJK, digits}},
    {.names = "deepseek-coder", .steps = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", DEEPSEEK_CJK, digit}},
    {.names = "deepseek-v3 hunyuan-dense joyai-llm hy_v4", .steps = {three_digits, CHINESE_KANA, deepseek3}},
    {.names = "spark2_5",
     .steps = {three_digits, CHINESE_KANA, MARKED "| ?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!\\S)|\\s+", digit}},
    {.names = "afmoe",
     .steps = {thousands,
               "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{8C48}-\\x{FAFF}\\x{3040}-\\x{30FF}\\x{FF65}-\\x{FF9F}"
               "\\x{2F00}-\\x{2FDF}\\x{E40}-\\x{EFF}\\x{1780}-\\x{17FF}\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}"
               "\\x{A9E0}-\\x{A9FF}\\x{AC00}-\\x{D7AF}\\x{1100}-\\x{11FF}]+",
               deepseek3}},
    {.names = "poro-chat bloom gpt3-finnish", .steps = {poro}},
    {.names = "viking", .steps = {poro, digit}},
    {.names = "chameleon",
     .steps = {"<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", "[\\t\\n]|    |  ", digit, "[\\p{P}!-/:-@\\[-`{-~]", gpt2},
     .add_bos = 1},
    {.names = "superbpe", .steps = {digits, ascii_thousands}},
    {.names = "gemma4 granite-embed-multi-311m", .steps = {lines}, .add_bos = 1, .plain = 1, .newlines = 1},
    {.names = "sarvam-moe", .steps = {lines}, .plain = 1},
};

const struct mb_pretoken *mb_pretoken_family(unsigned i)
{
    return i < MB_COUNT(families) ? &families[i] : NULL;
}

const struct mb_pretoken *mb_pretoken_find(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < MB_COUNT(families); i++)
        for (const char *at = families[i].names; *at; at += strspn(at, " ")) {
            size_t length = strcspn(at, " ");
            if (length == n && memcmp(at, name, n) == 0)
                return &families[i];
            at += length;
        }
    return NULL;
}

/* ---- compiling ---- */

/* The expression with \s and \S written out. Inside brackets \s is a part of the class. */
static char *expand(const char *step)
{
    char *out = malloc(strlen(step) * 2 + 64 * sizeof WHITE);
    size_t n = 0;
    int inside = 0;
    for (const char *at = step; out && *at; at++) {
        if (at[0] == '\\' && (at[1] == 's' || at[1] == 'S')) {
            const char *before = inside ? "" : at[1] == 's' ? "[" : "[^";
            n += (size_t)sprintf(out + n, "%s%s%s", before, WHITE, inside ? "" : "]");
            at++;
            continue;
        }
        inside = *at == '[' ? 1 : *at == ']' ? 0 : inside;
        out[n++] = *at;
        if (*at == '\\')
            out[n++] = *++at;
    }
    if (out)
        out[n] = 0;
    return out;
}

void mb_splitter_free(struct mb_splitter *splitter)
{
    for (unsigned i = 0; splitter && i < splitter->n; i++)
        pcre2_code_free(splitter->codes[i]);
    free(splitter);
}

int mb_splitter_new(const struct mb_pretoken *family, struct mb_splitter **out, struct mb_err *err)
{
    struct mb_splitter *splitter = calloc(1, sizeof *splitter);
    if (!splitter)
        return mb_fail_memory(err);
    splitter->family = family;
    for (unsigned i = 0; i < MB_PRETOKEN_STEPS_MAX && family->steps[i]; i++) {
        char *expression = expand(family->steps[i]);
        int error = 0;
        PCRE2_SIZE at = 0;
        pcre2_code *code = expression ? pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                                                      PCRE2_UTF | PCRE2_NO_AUTO_CAPTURE, &error, &at, NULL)
                                      : NULL;
        free(expression);
        if (!code) {
            mb_splitter_free(splitter);
            if (!expression || error == PCRE2_ERROR_HEAP_FAILED)
                return mb_fail_memory(err);
            return mb_fail(err, MB_EINTERNAL,
                           "pre-tokenizer %.20s: PCRE2 refuses expression %u at byte %zu (%d); take PCRE2 10.36 or newer",
                           family->names, i, (size_t)at, error);
        }
        pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* where there is no JIT, it is interpreted */
        splitter->codes[splitter->n++] = code;
    }
    *out = splitter;
    return MB_OK;
}

/* ---- cutting ---- */

struct cut {
    uint32_t *ends;
    size_t n, max;
};

/* One call of mb_splitter_run(). */
struct cutting {
    const char *text;
    pcre2_match_data *match;
    pcre2_match_context *limits;
    struct cut in, out;
    int code; /* MB_OK until something failed */
};

/* A piece ends here, unless it would be empty. */
static void add_end(struct cutting *c, size_t end)
{
    struct cut *cut = &c->out;
    if (c->code || end == (cut->n ? cut->ends[cut->n - 1] : 0))
        return;
    if (cut->n == cut->max) {
        size_t max = cut->max ? cut->max * 2 : 64;
        uint32_t *ends = realloc(cut->ends, max * sizeof *ends);
        if (!ends) {
            c->code = MB_ENOMEM;
            return;
        }
        cut->ends = ends;
        cut->max = max;
    }
    cut->ends[cut->n++] = (uint32_t)end;
}

/* The next match in the piece [start, end) from byte at on; 0: none. The piece is all that the expression sees. */
static int next_match(struct cutting *c, const pcre2_code *code, size_t start, size_t end, size_t at, size_t *from, size_t *to)
{
    PCRE2_SPTR subject = (PCRE2_SPTR)c->text + start;
    int n = pcre2_match(code, subject, end - start, at - start, PCRE2_NO_UTF_CHECK, c->match, c->limits);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its state on the heap */
        n = pcre2_match(code, subject, end - start, at - start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, c->match, c->limits);
    if (n == PCRE2_ERROR_NOMATCH)
        return 0;
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(c->match);
    if (n < 0 || found[1] <= found[0]) {
        c->code = n == PCRE2_ERROR_NOMEMORY ? MB_ENOMEM : MB_ERANGE;
        return 0;
    }
    *from = start + found[0];
    *to = start + found[1];
    return 1;
}

/* Cut a run of digits in threes from the right. */
static void cut_threes(struct cutting *c, size_t from, size_t to, int glued)
{
    size_t n = 0, seen = 0;
    for (size_t i = from; i < to; i++)
        n += (c->text[i] & 0xc0) != 0x80;
    if (!glued && n % 3 == 0)
        add_end(c, from);
    for (size_t i = from; i < to; seen++) {
        if (seen && (n - seen) % 3 == 0)
            add_end(c, i);
        i += mb_utf8_length(c->text[i]);
    }
    if (glued)
        add_end(c, to);
}

/* Cut white space after its last newline, each time 512 characters are done and more follow. */
static void cut_blanks(struct cutting *c, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (c->text[i] == '\r' || c->text[i] == '\n')
            from = i + 1;
    size_t n = 0;
    for (size_t i = from; i < to; i += mb_utf8_length(c->text[i]), n++)
        if (n && n % 512 == 0)
            add_end(c, i);
}

static void run_step(struct cutting *c, const char *step, const pcre2_code *code)
{
    size_t start = 0;
    for (size_t i = 0; i < c->in.n && !c->code; i++) {
        size_t end = c->in.ends[i], from, to;
        for (size_t at = start; at < end && next_match(c, code, start, end, at, &from, &to); at = to) {
            if (step == thousands || step == ascii_thousands) {
                cut_threes(c, from, to, step == thousands);
                continue;
            }
            if (step == long_blanks) {
                cut_blanks(c, from, to);
                continue;
            }
            add_end(c, from);
            add_end(c, to);
        }
        add_end(c, end);
        start = end;
    }
}

/* The text as PCRE2 takes it: the same number of bytes, all of them UTF-8. NULL: out of memory; text itself if it is so. */
static const char *valid_text(const char *text, size_t n)
{
    char *copy = NULL;
    for (size_t i = 0; i < n;) {
        int length = mb_utf8_sequence(text + i, n - i);
        if (length <= 0) {
            if (!copy) {
                copy = malloc(n);
                if (!copy)
                    return NULL;
                memcpy(copy, text, n);
            }
            copy[i] = 1;
        }
        i += length > 0 ? (size_t)length : 1;
    }
    return copy ? copy : text;
}

int mb_splitter_run(const struct mb_splitter *splitter, const char *text, size_t n, uint32_t **ends, size_t *n_ends,
                    struct mb_err *err)
{
    if (n > MB_SPLIT_BYTES_MAX)
        return mb_fail(err, MB_ERANGE, "text: %zu bytes, at most 1 GiB is cut at once; give it in parts", n);
    struct cutting c = {.text = valid_text(text, n)};
    c.match = pcre2_match_data_create(1, NULL);
    c.limits = pcre2_match_context_create(NULL);
    if (!c.text || !c.match || !c.limits) {
        c.code = MB_ENOMEM;
    } else {
        /* Work that grows faster than the text is cut off: it would be a hole in an expression. */
        pcre2_set_match_limit(c.limits, (uint32_t)(n < UINT32_MAX / 64 ? 1000000 + 32 * n : UINT32_MAX));
        pcre2_set_heap_limit(c.limits, 512 * 1024); /* in KiB */
        add_end(&c, n);
    }
    for (unsigned i = 0; i < splitter->n && !c.code; i++) {
        struct cut empty = c.in;
        c.in = c.out;
        c.out = empty;
        c.out.n = 0;
        run_step(&c, splitter->family->steps[i], splitter->codes[i]);
    }
    pcre2_match_data_free(c.match);
    pcre2_match_context_free(c.limits);
    if (c.text != text)
        free((char *)c.text);
    free(c.in.ends);
    if (c.code) {
        free(c.out.ends);
        return c.code == MB_ENOMEM ? mb_fail_memory(err)
                                   : mb_fail(err, MB_ERANGE, "text: cutting it into words takes too long; give it in parts");
    }
    *ends = c.out.ends;
    *n_ends = c.out.n;
    return MB_OK;
}
