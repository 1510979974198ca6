/* SPDX-License-Identifier: MIT */
/* Conversations: choosing a chat format, keeping messages, rendering them. The built-in formats are short templates written
 * from the formats' public descriptions; a model file's own template is always better, as it knows tools and thinking. */
#include "engine/chat.h"

#include "model/gguf.h"

#include <stdlib.h>
#include <string.h>

enum { MESSAGES_MAX = 100000 };

struct mb_chat {
    struct mb_template *tmpl;
    json_t *bos, *eos; /* texts */
    json_t *messages;
    char *text; /* of the last mb_chat_next() */
    size_t text_n;
};

static const struct {
    const char *name, *source;
} formats[] = {
    /* ChatML: <|im_start|>role, the text, <|im_end|>. Source: OpenAI's description of ChatML, 2023. */
    {"chatml", "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"},
    /* Llama 2: the system text inside the first instruction. Source: Meta, Llama 2 model card and prompt formats. */
    {"llama2", "{% set ns = namespace(system='') %}{% for m in messages %}{% if m['role'] == 'system' %}"
               "{% set ns.system = '<<SYS>>\\n' + m['content'] + '\\n<</SYS>>\\n\\n' %}{% elif m['role'] == 'user' %}"
               "{{ bos_token + '[INST] ' + ns.system + m['content'] | trim + ' [/INST]' }}{% set ns.system = '' %}"
               "{% else %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"},
    /* Llama 3: headers with the role. Source: Meta, Llama 3 model card and prompt formats. */
    {"llama3", "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + "
               "m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"},
    /* Gemma: turns of user and model; no system turn, so its text opens the first user turn. Source: Google, Gemma formatting. */
    {"gemma", "{{ bos_token }}{% set ns = namespace(system='') %}{% for m in messages %}{% if m['role'] == 'system' %}"
              "{% set ns.system = m['content'] | trim + '\\n\\n' %}{% else %}"
              "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' + ns.system + "
              "m['content'] | trim + '<end_of_turn>\\n' }}{% set ns.system = '' %}{% endif %}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"},
    /* Mistral 7B Instruct: as Llama 2 without system tags. Source: Mistral AI, instruct format. */
    {"mistral", "{{ bos_token }}{% set ns = namespace(system='') %}{% for m in messages %}{% if m['role'] == 'system' %}"
                "{% set ns.system = m['content'] + '\\n\\n' %}{% elif m['role'] == 'user' %}"
                "{{ '[INST] ' + ns.system + m['content'] + ' [/INST]' }}{% set ns.system = '' %}"
                "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"},
    /* Phi-3: <|role|>, the text, <|end|>. Source: Microsoft, Phi-3 model card. */
    {"phi3", "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}{% endfor %}"
             "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"},
    /* Zephyr and TinyLlama: <|role|>, the text, the end token. Source: Hugging Face, Zephyr model card. */
    {"zephyr", "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + eos_token + '\\n' }}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"},
};

const char *mb_chat_format(unsigned i)
{
    return i < MB_COUNT(formats) ? formats[i].name : NULL;
}

/* "chatml, llama2, ..." */
static const char *format_names(char *buf, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < MB_COUNT(formats) && at < n; i++)
        at += (size_t)snprintf(buf + at, n - at, "%s%s", i ? ", " : "", formats[i].name);
    return buf;
}

void mb_chat_free(struct mb_chat *chat)
{
    if (!chat)
        return;
    mb_template_free(chat->tmpl);
    json_decref(chat->messages);
    json_decref(chat->bos);
    json_decref(chat->eos);
    mb_text_free(chat->text);
    free(chat);
}

/* The text of a token; not terminated. */
struct token {
    const char *text;
    size_t n;
};

static int make_chat(const char *source, struct token bos, struct token eos, struct mb_chat **out, struct mb_err *err)
{
    struct mb_chat *chat = calloc(1, sizeof *chat);
    if (!chat)
        return mb_fail_memory(err);
    int code = mb_template_parse(source, strlen(source), &chat->tmpl, err);
    if (code == MB_OK) {
        chat->bos = json_stringn(bos.text, bos.n);
        chat->eos = json_stringn(eos.text, eos.n);
        chat->messages = json_array();
        if (!chat->bos || !chat->eos)
            code = mb_fail(err, MB_EFORMAT, "chat: the begin or end token is not valid UTF-8; the file is damaged");
        else if (!chat->messages)
            code = mb_fail_memory(err);
    }
    if (code == MB_OK)
        *out = chat;
    else
        mb_chat_free(chat);
    return code;
}

int mb_chat_new(const char *name, const char *bos, const char *eos, struct mb_chat **out, struct mb_err *err)
{
    const char *source = strstr(name, "{{") || strstr(name, "{%") ? name : NULL;
    char names[160];
    for (size_t i = 0; i < MB_COUNT(formats) && !source; i++)
        if (mb_name_compare(name, formats[i].name) == 0)
            source = formats[i].source;
    if (!source)
        return mb_fail(err, MB_ENAME, "chat format '%s': unknown; there are %s", name, format_names(names, sizeof names));
    struct token begin = {bos ? bos : "", bos ? strlen(bos) : 0}, end = {eos ? eos : "", eos ? strlen(eos) : 0};
    return make_chat(source, begin, end, out, err);
}

/* The token whose number stands under key; an empty text when the file does not say. */
static struct token token_of(const struct mb_gguf *gguf, const char *key)
{
    struct token token = {"", 0};
    uint64_t id;
    if (mb_gguf_get_u64(gguf, key, &id) == MB_OK)
        mb_gguf_get_text_at(gguf, "tokenizer.ggml.tokens", id, &token.text, &token.n); /* leaves it as it is on failure */
    return token;
}

int mb_chat_open(const struct mb_gguf *gguf, struct mb_chat **out, struct mb_err *err)
{
    const char *source;
    char names[160];
    if (mb_gguf_get_text(gguf, "tokenizer.chat_template", &source) != MB_OK || !*source)
        return mb_fail(err, MB_ENODATA, "chat template: the model file has none; name a format: %s",
                       format_names(names, sizeof names));
    struct token bos = token_of(gguf, "tokenizer.ggml.bos_token_id"), eos = token_of(gguf, "tokenizer.ggml.eos_token_id");
    return make_chat(source, bos, eos, out, err);
}

int mb_chat_mentions(const struct mb_chat *chat, const char *variable)
{
    return mb_template_mentions(chat->tmpl, variable);
}

static int is_message(const json_t *message)
{
    return json_is_object(message) && json_is_string(json_object_get(message, "role"));
}

/* The variables of the template; NULL when out of memory. */
static json_t *make_context(const struct mb_chat *chat, const json_t *messages, const struct mb_chat_opts *opts)
{
    json_t *context = json_object();
    int bad = json_object_set(context, "bos_token", chat->bos);
    bad += json_object_set(context, "eos_token", chat->eos);
    if (opts->extra)
        bad += json_object_update(context, (json_t *)opts->extra); /* only reads it, and counts references */
    bad += json_object_set(context, "messages", (json_t *)messages);
    bad += mb_json_put(context, "add_generation_prompt", json_boolean(opts->add_generation_prompt));
    if (!bad)
        return context;
    json_decref(context);
    return NULL;
}

int mb_chat_render(const struct mb_chat *chat, const json_t *messages, const struct mb_chat_opts *opts, char **text, size_t *n,
                   struct mb_err *err)
{
    static const struct mb_chat_opts none;
    struct tm local;
    time_t now = time(NULL);
    size_t count = json_array_size(messages);
    if (!opts)
        opts = &none;
    if (!json_is_array(messages) || count > MESSAGES_MAX)
        return mb_fail(err, MB_EINVAL, "messages: an array of at most %d messages is needed", MESSAGES_MAX);
    for (size_t i = 0; i < count; i++)
        if (!is_message(json_array_get(messages, i)))
            return mb_fail(err, MB_EINVAL, "messages[%zu]: an object with a role is needed", i);
    if (opts->extra && !json_is_object(opts->extra))
        return mb_fail(err, MB_EINVAL, "chat: the further variables are no JSON object");
    struct mb_template_opts template_opts = opts->template_opts;
    if (!template_opts.now && localtime_r(&now, &local))
        template_opts.now = &local;
    json_t *context = make_context(chat, messages, opts);
    if (!context)
        return mb_fail_memory(err);
    int code = mb_template_render(chat->tmpl, context, &template_opts, text, n, err);
    json_decref(context);
    return code;
}

int mb_chat_add_json(struct mb_chat *chat, json_t *message, struct mb_err *err)
{
    if (!is_message(message)) {
        json_decref(message);
        return mb_fail(err, MB_EINVAL, "message: an object with a role is needed");
    }
    if (json_array_size(chat->messages) >= MESSAGES_MAX) {
        json_decref(message);
        return mb_fail(err, MB_ERANGE, "conversation: more than %d messages", MESSAGES_MAX);
    }
    return json_array_append_new(chat->messages, message) ? mb_fail_memory(err) : MB_OK;
}

int mb_chat_add(struct mb_chat *chat, const char *role, const char *content, struct mb_err *err)
{
    json_t *who = json_string(role), *what = json_string(content), *message = json_object();
    if (!who || !what || !message) {
        json_decref(who);
        json_decref(what);
        json_decref(message);
        return mb_fail(err, MB_EINVAL, "message: is not valid UTF-8");
    }
    int bad = mb_json_put(message, "role", who) + mb_json_put(message, "content", what);
    if (bad) {
        json_decref(message);
        return mb_fail_memory(err);
    }
    return mb_chat_add_json(chat, message, err);
}

const json_t *mb_chat_messages(const struct mb_chat *chat)
{
    return chat->messages;
}

void mb_chat_truncate(struct mb_chat *chat, size_t n)
{
    while (json_array_size(chat->messages) > n)
        json_array_remove(chat->messages, json_array_size(chat->messages) - 1);
}

int mb_chat_next(struct mb_chat *chat, const struct mb_chat_opts *opts, const char **text, size_t *n, size_t *n_same,
                 struct mb_err *err)
{
    char *fresh;
    size_t fresh_n, same = 0;
    int code = mb_chat_render(chat, chat->messages, opts, &fresh, &fresh_n, err);
    if (code != MB_OK)
        return code;
    while (same < fresh_n && same < chat->text_n && fresh[same] == chat->text[same])
        same++;
    while (same && same < fresh_n && ((unsigned char)fresh[same] & 0xc0) == 0x80)
        same--;
    mb_text_free(chat->text);
    chat->text = fresh;
    chat->text_n = fresh_n;
    *text = fresh;
    *n = fresh_n;
    *n_same = same;
    return MB_OK;
}
