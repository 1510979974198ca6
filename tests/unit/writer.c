/* SPDX-License-Identifier: MIT */
/* Suite for src/engine/writer.c: texts and conversations of a small model with random weights (tests/engine/make_writer.py). What
 * it writes means nothing; that the same comes out whichever way it is asked for means everything. */
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static const char *root;

struct fixture {
    struct mb_model *model;
    struct mb_engine *engine;
    struct mb_session *session;
    struct mb_writer *writer;
    char text[8192];
    size_t n, n_calls;
    int cancel;
};

static void open_writer(struct fixture *f, uint32_t n_ctx, float temperature, uint64_t seed, const char *format)
{
    char path[1024];
    struct mb_sampler_opts sampling = mb_sampler_defaults();
    sampling.temperature = temperature;
    sampling.seed = seed;
    const struct mb_writer_opts opts = {.sampling = &sampling, .chat_format = format};
    const struct mb_session_opts session = {.n_ctx = n_ctx, .n_threads = 2, .n_batch = 16};
    struct mb_err err = {0};
    memset(f, 0, sizeof *f);
    snprintf(path, sizeof path, "%s/tests/data/golden/writer.gguf", root);
    assert_int_equal(mb_model_open(path, NULL, &f->model, &err), MB_OK);
    assert_int_equal(mb_engine_open(f->model, NULL, &f->engine, &err), MB_OK);
    assert_int_equal(mb_session_open(f->engine, &session, &f->session, &err), MB_OK);
    assert_int_equal(mb_writer_open(f->session, f->model, &opts, &f->writer, &err), MB_OK);
}

static void close_writer(struct fixture *f)
{
    mb_writer_close(f->writer);
    mb_session_free(f->session);
    mb_engine_free(f->engine);
    mb_model_free(f->model);
}

static void on_text(void *user, const char *text, size_t n)
{
    struct fixture *f = user;
    assert_true(f->n + n < sizeof f->text);
    memcpy(f->text + f->n, text, n);
    f->n += n;
    f->text[f->n] = 0;
    f->n_calls++;
}

static void stop_at_ten(void *user, const struct mb_written *so_far)
{
    struct fixture *f = user;
    f->cancel = so_far->n_written >= 10;
}

static struct mb_written write_on(struct fixture *f, size_t n_max)
{
    struct mb_written written;
    struct mb_err err = {0};
    const struct mb_write_opts opts = {.n_max = n_max, .ignore_end = 1, .on_text = on_text, .user = f};
    f->n = f->n_calls = 0;
    assert_int_equal(mb_writer_write(f->writer, &opts, &written, &err), MB_OK);
    return written;
}

static void the_same_seed_writes_the_same_text(void **state)
{
    struct fixture f;
    char texts[4][8192];
    const uint64_t seeds[] = {5, 5, 6, 5};
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        open_writer(&f, 256, 1.5f, seeds[i], NULL);
        assert_int_equal(mb_writer_text(f.writer, "it was", 6, NULL), MB_OK);
        struct mb_written written = write_on(&f, 40);
        assert_int_equal(written.stop, MB_STOP_LENGTH);
        assert_int_equal(written.n_written, 40);
        assert_int_equal(written.n_decoded, 39); /* the first token comes from the prefill */
        assert_true(written.decode_bytes > 39 * 60000.0 && written.decode_s > 0 && written.prefill_s > 0);
        if (i == 3) { /* asked again, the same session starts anew */
            assert_int_equal(mb_writer_text(f.writer, "it was", 6, NULL), MB_OK);
            written = write_on(&f, 40);
            assert_int_equal(written.n_reused, written.n_prompt - 1);
        }
        strcpy(texts[i], f.text);
        close_writer(&f);
    }
    assert_string_equal(texts[0], texts[1]);
    assert_string_equal(texts[0], texts[3]);
    assert_string_not_equal(texts[0], texts[2]);
}

/* The second turn of a conversation, once with the cache of the first and once without, gives the same answer. */
static void a_conversation_reuses_its_beginning(void **state)
{
    struct fixture f, g;
    struct mb_err err = {0};
    (void)state;
    open_writer(&f, 256, 0, 0, NULL);
    assert_int_equal(mb_writer_message(f.writer, "system", "be", &err), MB_OK);
    assert_int_equal(mb_writer_message(f.writer, "user", "to be or", &err), MB_OK);
    struct mb_written first = write_on(&f, 12);
    assert_int_equal(first.n_reused, 0);
    char answer[8192];
    strcpy(answer, f.text);
    assert_int_equal(mb_writer_message(f.writer, "user", "not to be", &err), MB_OK);
    struct mb_written second = write_on(&f, 12);
    assert_true(second.n_reused >= first.n_prompt && second.n_prompt > first.n_prompt);

    open_writer(&g, 256, 0, 0, NULL);
    assert_int_equal(mb_writer_message(g.writer, "system", "be", &err), MB_OK);
    assert_int_equal(mb_writer_message(g.writer, "user", "to be or", &err), MB_OK);
    assert_int_equal(mb_writer_message(g.writer, "assistant", answer, &err), MB_OK);
    assert_int_equal(mb_writer_message(g.writer, "user", "not to be", &err), MB_OK);
    struct mb_written whole = write_on(&g, 12);
    assert_int_equal(whole.n_reused, 0);
    assert_int_equal(whole.n_prompt, second.n_prompt);
    assert_string_equal(f.text, g.text);
    close_writer(&f);
    close_writer(&g);
}

static void writing_stops_where_it_must(void **state)
{
    struct fixture f;
    struct mb_written written;
    struct mb_err err = {0};
    (void)state;
    open_writer(&f, 32, 0, 0, NULL);
    assert_int_equal(mb_writer_write(f.writer, NULL, &written, &err), MB_EINVAL); /* nothing to continue */
    assert_int_equal(mb_writer_text(f.writer, "the of", 6, &err), MB_OK);
    written = write_on(&f, 0);
    assert_int_equal(written.stop, MB_STOP_CONTEXT);
    assert_int_equal(written.n_prompt + written.n_written, 33); /* the last one needs no room */
    struct mb_write_opts opts = {.ignore_end = 1, .on_token = stop_at_ten, .user = &f, .cancel = &f.cancel};
    assert_int_equal(mb_writer_text(f.writer, "the of", 6, &err), MB_OK);
    assert_int_equal(mb_writer_write(f.writer, &opts, &written, &err), MB_OK);
    assert_int_equal(written.stop, MB_STOP_CANCEL);
    assert_int_equal(written.n_written, 10);
    char longer[200];
    memset(longer, 'x', sizeof longer);
    assert_int_equal(mb_writer_text(f.writer, longer, sizeof longer, &err), MB_ERANGE);
    assert_non_null(strstr(err.text, "context 32"));
    close_writer(&f);
}

static int is_utf8(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    while (*p) {
        unsigned n = *p < 0x80 ? 0 : *p >= 0xc2 && *p < 0xe0 ? 1 : *p >= 0xe0 && *p < 0xf0 ? 2 : *p >= 0xf0 && *p < 0xf5 ? 3 : 9;
        for (p++; n; n--)
            if (n == 9 || (*p++ & 0xc0) != 0x80)
                return 0;
    }
    return 1;
}

static void on_whole_characters(void *user, const char *text, size_t n)
{
    char copy[256];
    assert_true(n < sizeof copy);
    memcpy(copy, text, n);
    copy[n] = 0;
    assert_true(is_utf8(copy));
    on_text(user, text, n);
}

static void text_comes_in_whole_characters(void **state)
{
    struct fixture f;
    struct mb_written written;
    struct mb_err err = {0};
    (void)state;
    open_writer(&f, 256, 2, 9, NULL);
    struct mb_write_opts opts = {.n_max = 200, .ignore_end = 1, .on_text = on_whole_characters, .user = &f};
    assert_int_equal(mb_writer_text(f.writer, "to", 2, &err), MB_OK);
    assert_int_equal(mb_writer_write(f.writer, &opts, &written, &err), MB_OK);
    assert_true(f.n_calls > 20);
    close_writer(&f);
}

static void bad_requests_are_named(void **state)
{
    struct fixture f;
    struct mb_err err = {0};
    struct mb_writer *writer;
    struct mb_model *named;
    (void)state;
    open_writer(&f, 64, 0, 0, "chatml");
    char much[512];
    memset(much, 'a', sizeof much - 1);
    much[sizeof much - 1] = 0;
    assert_int_equal(mb_writer_message(f.writer, "user", "\xff", &err), MB_EINVAL);
    assert_int_equal(mb_writer_message(f.writer, "user", much, &err), MB_ERANGE);
    assert_int_equal(mb_writer_message(f.writer, "user", "he", &err), MB_OK); /* those before were not kept */
    const struct mb_writer_opts broken[] = {{.extra_json = "[1]"}, {.extra_json = "{"}, {.chat_format = "nosuch"}};
    const int codes[] = {MB_EFORMAT, MB_EFORMAT, MB_ENAME};
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(mb_writer_open(f.session, f.model, broken + i, &writer, &err), codes[i]);
    assert_int_equal(mb_model_open("Qwen3-8B", NULL, &named, &err), MB_OK);
    assert_int_equal(mb_writer_open(f.session, named, NULL, &writer, &err), MB_EINVAL);
    mb_model_free(named);
    close_writer(&f);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_seed_writes_the_same_text), cmocka_unit_test(a_conversation_reuses_its_beginning),
        cmocka_unit_test(writing_stops_where_it_must),        cmocka_unit_test(text_comes_in_whole_characters),
        cmocka_unit_test(bad_requests_are_named),
    };
    root = argc > 1 ? argv[1] : ".";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
