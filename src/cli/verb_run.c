/* SPDX-License-Identifier: MIT */
/* membound run: text from a model, or a conversation with it, and beside it what the machine reached of the bound. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PROMPT_BYTES_MAX = 64 << 20 };

/* What was asked for. */
struct request {
    const char *spec, *prompt, *file, *system, *chat_format, *extra, *kv_type;
    uint64_t n_max, n_ctx, n_threads, seed;
    int seed_given, raw, ignore_end, map, copy, json;
    struct mb_sampler_opts sampling;
};

/* Everything that is open while a model runs. */
struct run {
    const struct request *request;
    struct mb_machine *machine; /* NULL: could not be detected, which costs the bound only */
    struct mb_model *model;
    struct mb_engine *engine;
    struct mb_session *session;
    struct mb_writer *writer;
    struct meter meter;
    struct progress progress;
    double bound_bytes_per_s; /* 0 unknown */
    const char *bound_is;     /* "measured", "spec", ... */
    unsigned n_nodes;         /* of memory; 0 unknown */
    enum mb_load_mode load;
    const char *load_why;
    double load_s;
    int behind_told; /* how it went was said */
};

/* One answer and what it took. */
struct answer {
    struct mb_written written;
    struct mb_speed predicted; /* tokens_per_s 0: unknown */
    char *text;                /* with --json */
    size_t n, room;
    struct run *run;
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- opening ---- */

/* All of a stream as text; free() it. NULL after a line on stderr. */
static char *read_all(FILE *in, const char *name, size_t *out_n)
{
    char *text = NULL;
    size_t n = 0, room = 0;
    while (!feof(in) && !ferror(in) && n <= PROMPT_BYTES_MAX) {
        if (n + 1 >= room) {
            room = 2 * room + 65536;
            char *grown = realloc(text, room);
            if (!grown) {
                free(text);
                fprintf(stderr, "membound: out of memory reading %s\n", name);
                return NULL;
            }
            text = grown;
        }
        n += fread(text + n, 1, room - 1 - n, in);
    }
    if (ferror(in) || n > PROMPT_BYTES_MAX || !text) {
        fprintf(stderr, "membound: %s: %s\n", name, ferror(in) ? strerror(errno) : "over 64 MiB; give less text");
        free(text);
        return NULL;
    }
    text[n] = 0;
    *out_n = n;
    return text;
}

static void find_bound(struct run *run)
{
    struct mb_err err;
    if (open_machine(NULL, NULL, &run->machine, &err) != MB_OK) {
        run->machine = NULL;
        return;
    }
    for (unsigned i = 0; i < run->machine->n_processors; i++) {
        const struct mb_processor *processor = run->machine->processors + i;
        if (processor->kind == MB_PROCESSOR_CPU)
            run->n_nodes = processor->n_numa_nodes;
        for (unsigned r = 0; processor->kind == MB_PROCESSOR_CPU && r < processor->n_reads; r++) {
            const struct mb_figure *figure = &processor->reads[r].bytes_per_s;
            if (figure->provenance == MB_UNKNOWN || figure->value <= run->bound_bytes_per_s)
                continue;
            run->bound_bytes_per_s = figure->value;
            run->bound_is = mb_provenance_name(figure->provenance);
        }
    }
}

/* Weights in the order that streams best need memory of their own; where the machine has too little, the file is mapped. */
static int has_no_room(const struct run *run)
{
    struct mb_model_info info;
    mb_model_get_info(run->model, &info);
    for (unsigned i = 0; run->machine && i < run->machine->n_pools; i++) {
        const struct mb_pool *pool = run->machine->pools + i;
        if (pool->kind != MB_POOL_VRAM && pool->free_bytes.provenance != MB_UNKNOWN)
            return (double)info.resident_bytes > 0.8 * pool->free_bytes.value;
    }
    return 1;
}

/* The first token comes soonest from the mapped file, the others from memory: so the one is followed by the other, except where
 * several memory nodes want each thread to write its own rows. */
static void choose_load(struct run *run)
{
    run->load = MB_LOAD_BEHIND;
    run->load_why = "default";
    if (run->request->map || run->request->copy) {
        run->load = run->request->map ? MB_LOAD_MMAP : MB_LOAD_COPY;
        run->load_why = "asked";
    } else if (has_no_room(run)) {
        run->load = MB_LOAD_MMAP;
        run->load_why = "memory";
    } else if (run->n_nodes > 1) {
        run->load = MB_LOAD_COPY;
        run->load_why = "nodes";
    }
}

static int open_engine(struct run *run, struct mb_err *err)
{
    const struct request *request = run->request;
    choose_load(run);
    struct mb_engine_opts engine = {.load = run->load,
                                    .n_threads = (unsigned)request->n_threads,
                                    .progress = progress_show,
                                    .user = &run->progress,
                                    .cancel = interrupt_flag()};
    double began_s = now_s();
    progress_begin(&run->progress);
    int code = mb_engine_open(run->model, &engine, &run->engine, err);
    progress_end(&run->progress);
    run->load_s = now_s() - began_s;
    if (code == MB_OK && run->load == MB_LOAD_MMAP && !request->map && !request->json)
        fputs("The weights are read from the file as it is mapped: there is no room to copy them.\n", stderr);
    return code;
}

static int open_all(struct run *run, struct mb_err *err)
{
    const struct request *request = run->request;
    int code = open_model(request->spec, &run->model, err);
    if (code != MB_OK)
        return code;
    find_bound(run);
    code = open_engine(run, err);
    const struct mb_session_opts session = {.n_threads = (unsigned)request->n_threads,
                                            .n_ctx = (uint32_t)request->n_ctx,
                                            .type_k = request->kv_type,
                                            .type_v = request->kv_type};
    const struct mb_writer_opts writer = {.sampling = &request->sampling,
                                          .chat_format = request->chat_format,
                                          .extra_json = request->extra};
    if (code == MB_OK)
        code = mb_session_open(run->engine, &session, &run->session, err);
    if (code == MB_OK)
        code = mb_writer_open(run->session, run->model, &writer, &run->writer, err);
    if (code == MB_OK && request->system)
        code = mb_writer_message(run->writer, "system", request->system, err);
    return code;
}

static void close_all(struct run *run)
{
    mb_writer_close(run->writer);
    mb_session_free(run->session);
    mb_engine_free(run->engine);
    mb_model_free(run->model);
    mb_machine_free(run->machine);
}

/* ---- figures ---- */

/* What a plan says of this machine, this model and this engine at the depth that was reached. */
static void predict(struct run *run, struct answer *answer)
{
    size_t depth;
    struct mb_plan *plan;
    struct mb_err err;
    mb_session_tokens(run->session, &depth);
    struct mb_plan_opts opts = {.engine = "membound", .n_ctx = depth < 256 ? 256 : depth};
    opts.kv.type_k = opts.kv.type_v = run->request->kv_type;
    if (!run->machine || mb_plan_make(run->machine, run->model, &opts, &plan, &err) != MB_OK)
        return;
    if (plan->n_by_depth)
        answer->predicted = plan->by_depth[plan->n_by_depth - 1].decode;
    mb_plan_free(plan);
}

static double rate_of(double count, double seconds)
{
    return seconds > 0 ? count / seconds : 0;
}

/* A speed with as many digits as it deserves. */
static const char *speed_text(double tokens_per_s, char *buf, size_t n)
{
    snprintf(buf, n, tokens_per_s < 99.95 ? "%.1f" : "%.0f", tokens_per_s);
    return buf;
}

/* How far the weights are on their way to memory, until it was said that all are there. */
static void append_behind(struct run *run, char *text, size_t n)
{
    struct mb_session_info info;
    char done[32], all[32];
    mb_session_get_info(run->session, &info);
    if (run->load != MB_LOAD_BEHIND || run->behind_told)
        return;
    run->behind_told = info.behind_s > 0 || !info.behind_bytes;
    if (info.behind_s > 0)
        append(text, n, "; weights in memory after %.1f s", info.behind_s);
    else if (info.behind_bytes)
        append(text, n, "; %s of %s of the weights in memory, the others in the mapped file",
               mb_format_bytes((double)info.behind_done_bytes, done, sizeof done),
               mb_format_bytes((double)info.behind_bytes, all, sizeof all));
    else
        append(text, n, "; weights in the mapped file: the system gave no memory or no thread to copy them");
}

static void show_figures(struct run *run, const struct answer *answer)
{
    const struct mb_written *w = &answer->written;
    size_t n_new = w->n_prompt - w->n_reused;
    char text[600] = "", seen[48], low[32], high[32];
    append(text, sizeof text, "prefill %zu tokens%s, %s tok/s", n_new, w->n_reused ? " (the others were known)" : "",
           speed_text(rate_of((double)n_new, w->prefill_s), seen, sizeof seen));
    if (w->n_decoded) {
        double rate = rate_of(w->decode_bytes, w->decode_s);
        append(text, sizeof text, "; decode %zu tokens, %s tok/s; ", w->n_decoded,
               speed_text(rate_of((double)w->n_decoded, w->decode_s), seen, sizeof seen));
        append(text, sizeof text, "%.3g GB per token, %s", w->decode_bytes / (double)w->n_decoded / 1e9,
               mb_format_rate(rate, seen, sizeof seen));
        if (run->bound_bytes_per_s > 0)
            append(text, sizeof text, ", %.0f %% of the bound (%s, %s)", 100 * rate / run->bound_bytes_per_s,
                   mb_format_rate(run->bound_bytes_per_s, seen, sizeof seen), run->bound_is);
        else
            append(text, sizeof text, "; the bound is not known (membound machine --measure)");
    }
    append_behind(run, text, sizeof text);
    if (answer->predicted.tokens_per_s > 0)
        append(text, sizeof text, "; predicted %s tok/s, %s to %s",
               speed_text(answer->predicted.tokens_per_s, seen, sizeof seen),
               speed_text(answer->predicted.low, low, sizeof low), speed_text(answer->predicted.high, high, sizeof high));
    if (w->stop != MB_STOP_END)
        append(text, sizeof text, "; stopped: %s",
               w->stop == MB_STOP_LENGTH    ? "the number of tokens is reached"
               : w->stop == MB_STOP_CONTEXT ? "the context is full (--ctx)"
                                            : "interrupted");
    struct mb_table *table = mb_table_new(1);
    mb_table_row(table);
    mb_table_cell(table, 0, MB_DIM, text);
    mb_table_print(table, stderr, 0, 80, terminal_of_stderr());
    mb_table_free(table);
}

static int print_json(const struct run *run, const struct answer *answer)
{
    struct mb_run_report report_of = {.model = run->model,
                                      .machine = run->machine,
                                      .session = run->session,
                                      .written = &answer->written,
                                      .text = answer->text ? answer->text : "",
                                      .text_n = answer->n,
                                      .seed = run->request->sampling.seed,
                                      .load = run->load,
                                      .load_why = run->load_why,
                                      .load_s = run->load_s,
                                      .bound_bytes_per_s = run->bound_bytes_per_s,
                                      .predicted = answer->predicted};
    struct mb_err err;
    char *text;
    if (mb_run_json(&report_of, &text, &err) != MB_OK)
        return report(&err);
    puts(text);
    mb_text_free(text);
    return 0;
}

/* ---- writing ---- */

/* A terminal obeys control characters, and a model may write any: only line ends and tabs reach it. */
static void write_text(const char *text, size_t n)
{
    int filter = isatty(STDOUT_FILENO);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        int is_c1 = c == 0xc2 && i + 1 < n && (unsigned char)text[i + 1] < 0xa0;
        if (filter && ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f || is_c1))
            i += (size_t)is_c1;
        else
            putchar(c);
    }
    fflush(stdout);
}

static void on_text(void *user, const char *text, size_t n)
{
    struct answer *answer = user;
    if (!answer->run->request->json) {
        write_text(text, n);
        return;
    }
    if (answer->n + n + 1 > answer->room) {
        size_t room = 2 * (answer->n + n) + 4096;
        char *grown = realloc(answer->text, room);
        if (!grown)
            return; /* the JSON will lack the end of the text; its tokens are counted */
        answer->text = grown;
        answer->room = room;
    }
    memcpy(answer->text + answer->n, text, n);
    answer->n += n;
}

static void on_token(void *user, const struct mb_written *so_far)
{
    struct answer *answer = user;
    meter_show(&answer->run->meter, so_far);
}

static void on_prefill(void *user, const char *what, double share)
{
    struct answer *answer = user;
    progress_show(&answer->run->progress, what, share);
    if (share >= 1)
        progress_end(&answer->run->progress);
}

/* Write one answer and tell its figures; the exit code. */
static int write_answer(struct run *run)
{
    const struct request *request = run->request;
    struct answer answer = {.run = run};
    struct mb_write_opts opts = {.n_max = request->n_max,
                                 .ignore_end = request->ignore_end,
                                 .on_text = on_text,
                                 .on_token = on_token,
                                 .progress = on_prefill,
                                 .user = &answer,
                                 .cancel = interrupt_flag()};
    struct mb_err err;
    progress_begin(&run->progress);
    meter_begin(&run->meter, run->bound_bytes_per_s);
    int code = mb_writer_write(run->writer, &opts, &answer.written, &err);
    progress_end(&run->progress);
    meter_end(&run->meter);
    predict(run, &answer);
    if (!request->json) {
        putchar('\n');
        fflush(stdout);
    }
    if (code != MB_OK) {
        code = report(&err);
    } else if (request->json) {
        code = print_json(run, &answer);
    } else {
        show_figures(run, &answer);
    }
    free(answer.text);
    return code;
}

/* A text that is not a conversation: with --raw, and where the file has no chat template. */
static int write_once(struct run *run, const char *text, size_t n)
{
    struct mb_err err = {0};
    int code = MB_ENODATA;
    if (!run->request->raw && strlen(text) != n) {
        fputs("membound: a message can't hold NUL bytes; take them out, or continue the text as it is (--raw)\n", stderr);
        return 3;
    }
    if (!run->request->raw)
        code = mb_writer_message(run->writer, "user", text, &err);
    if (code == MB_ENODATA && !run->request->chat_format)
        code = mb_writer_text(run->writer, text, n, &err);
    return code == MB_OK ? write_answer(run) : report(&err);
}

/* A conversation on the terminal, a line at a time. */
static int chat(struct run *run)
{
    struct mb_err err;
    char *text = NULL;
    size_t room = 0;
    int code = 0;
    fputs("Type a message; Ctrl-C stops an answer, Ctrl-D ends.\n", stderr);
    for (;;) {
        fputs("\n> ", stderr);
        ssize_t n = getline(&text, &room, stdin);
        if (n < 0)
            break;
        while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
            text[--n] = 0;
        if (!n)
            continue;
        int failed = mb_writer_message(run->writer, "user", text, &err);
        if (failed != MB_OK) {
            code = report(&err);
            if (failed == MB_ENODATA || failed == MB_EFORMAT)
                break;
            continue;
        }
        code = write_answer(run);
        interrupt_clear();
    }
    free(text);
    fputc('\n', stderr);
    return code;
}

static int run_request(const struct request *request)
{
    struct run run = {.request = request};
    struct mb_err err;
    size_t n = request->prompt ? strlen(request->prompt) : 0;
    char *text = NULL;
    if (request->file || (!request->prompt && !isatty(STDIN_FILENO))) {
        int is_stdin = !request->file || strcmp(request->file, "-") == 0;
        FILE *in = is_stdin ? stdin : fopen(request->file, "rb");
        if (!in) {
            fprintf(stderr, "membound: %s: %s; name a file with the prompt\n", request->file, strerror(errno));
            return 3;
        }
        text = read_all(in, is_stdin ? "standard input" : request->file, &n);
        if (!is_stdin)
            fclose(in);
        if (!text)
            return 3;
    }
    const char *prompt = text ? text : request->prompt;
    int code = open_all(&run, &err);
    code = code != MB_OK ? report(&err) : prompt ? write_once(&run, prompt, n) : chat(&run);
    close_all(&run);
    free(text);
    return code;
}

/* Without a model: which are here, and how to get one. */
static int offer_models(void)
{
    puts("Which model? A GGUF file by its path, or one of these by its name:\n");
    list_found_models(0);
    puts("\nTo get one: download a GGUF file of a size that membound plan says will fit\n"
         "(membound advise names some), for example with ollama pull, LM Studio or hf\n"
         "download; then membound run FILE.gguf -p \"Hello\".");
    return 2;
}

/* Numbers of the command line are doubles; those of the sampler have ranges of their own, which mb_sampler_open() checks. */
struct sampling {
    double temperature, top_p, min_p, repeat, presence, frequency;
    uint64_t top_k;
};

int verb_run(int argc, char **argv)
{
    struct request request = {.sampling = mb_sampler_defaults(), .seed = UINT64_MAX};
    const struct mb_sampler_opts defaults = request.sampling;
    struct sampling sampling = {defaults.temperature,    (double)defaults.top_p,       (double)defaults.min_p,
                                defaults.penalty_repeat,
                                defaults.penalty_presence, defaults.penalty_frequency, defaults.top_k};
    const struct option options[] = {
        {"prompt", OPTION_TEXT, &request.prompt, "TEXT", "answer this; without it a conversation, or standard input"},
        {"file", OPTION_TEXT, &request.file, "FILE", "the prompt is in FILE (-: standard input)"},
        {"tokens", OPTION_COUNT, &request.n_max, "N", "write N tokens at most (default: until the end)"},
        {"system", OPTION_TEXT, &request.system, "TEXT", "system message of the conversation"},
        {"raw", OPTION_FLAG, &request.raw, NULL, "continue the text as it is, without a chat template"},
        {"ctx", OPTION_COUNT, &request.n_ctx, "N", "tokens of context (default 4096)"},
        {"kv", OPTION_TEXT, &request.kv_type, "TYPE", "type of the KV cache: F16 (default), Q8_0, F32"},
        {"threads", OPTION_COUNT, &request.n_threads, "N", "threads (default: all)"},
        {"temp", OPTION_NUMBER, &sampling.temperature, "T", "temperature (0.8; 0: always the most probable token)"},
        {"top-k", OPTION_COUNT, &sampling.top_k, "K", "choose among the K most probable (40; 0: all)"},
        {"top-p", OPTION_NUMBER, &sampling.top_p, "P", "of these, those that make up P together (0.95)"},
        {"min-p", OPTION_NUMBER, &sampling.min_p, "P", "of these, those at least P times the best (0.05)"},
        {"repeat-penalty", OPTION_NUMBER, &sampling.repeat, "X", "divide the logits of the last 64 tokens (1: off)"},
        {"presence-penalty", OPTION_NUMBER, &sampling.presence, "X", "take X off those logits, once (0)"},
        {"frequency-penalty", OPTION_NUMBER, &sampling.frequency, "X", "take X off, for each occurrence (0)"},
        {"seed", OPTION_COUNT, &request.seed, "N", "same seed, same text (default: the clock)"},
        {"template", OPTION_TEXT, &request.chat_format, "NAME", "chat format: chatml, llama3, gemma, ... or a template"},
        {"template-vars", OPTION_TEXT, &request.extra, "JSON", "for the template: {\"enable_thinking\": false}"},
        {"ignore-end", OPTION_FLAG, &request.ignore_end, NULL, "write on when the model ends its text"},
        {"copy", OPTION_FLAG, &request.copy, NULL, "copy the weights before the first token, not behind it"},
        {"mmap", OPTION_FLAG, &request.map, NULL, "map the file and copy nothing"},
        {"json", OPTION_FLAG, &request.json, NULL, "text and figures as JSON (docs/json.md)"},
    };
    const struct command command = {
        .name = "run",
        .synopsis = "MODEL [-p TEXT | -f FILE] [options]",
        .summary = "Write with a model on the CPU, or chat with it, and see how near the bound.",
        .examples = "  membound run gemma-3-270m-it.gguf -p \"What is the capital of France?\"\n"
                    "  membound run model.gguf           a conversation\n"
                    "  membound run model.gguf --raw -p \"Once upon\" -n 99 --temp 0\n",
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .letters = "pfn",
        .max_positional = 1,
    };
    enum parse_result parsed = command_parse(&command, argc, argv, &request.spec);
    if (parsed != PARSE_GO)
        return parsed == PARSE_STOP ? 0 : 2;
    if (!request.spec)
        return offer_models();
    const char *clash = request.prompt && request.file                       ? "--prompt and --file exclude each other"
                        : request.raw && (request.system || request.chat_format) ? "--raw knows no system message and no template"
                        : request.copy && request.map                        ? "--copy and --mmap exclude each other"
                        : request.n_ctx > UINT32_MAX                         ? "--ctx is too large"
                        : request.n_threads > 4096                           ? "--threads is over 4096"
                                                                             : NULL;
    if (clash)
        return command_refuse(&command, clash);
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    request.sampling.seed = request.seed != UINT64_MAX ? request.seed : (uint64_t)t.tv_nsec ^ (uint64_t)t.tv_sec;
    request.sampling.temperature = (float)sampling.temperature;
    request.sampling.top_k = sampling.top_k > UINT32_MAX ? 0 : (unsigned)sampling.top_k;
    request.sampling.top_p = (float)sampling.top_p;
    request.sampling.min_p = (float)sampling.min_p;
    request.sampling.penalty_repeat = (float)sampling.repeat;
    request.sampling.penalty_presence = (float)sampling.presence;
    request.sampling.penalty_frequency = (float)sampling.frequency;
    return run_request(&request);
}
