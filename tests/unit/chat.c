/* SPDX-License-Identifier: MIT */
/* Suite for src/engine/chat.c: formats, a model file's template, and the bookkeeping of a conversation. */
#include "engine/chat.h"
#include "model/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *root;

static struct mb_chat *open_format(const char *name)
{
    struct mb_chat *chat;
    struct mb_err err;
    if (mb_chat_new(name, "<s>", "</s>", &chat, &err) != MB_OK)
        fail_msg("%s", err.text);
    return chat;
}

static void builtin_formats(void **state)
{
    (void)state;
    static const struct {
        const char *format, *text;
    } cases[] = {
        {"chatml", "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"
                   "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"},
        {"llama2", "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Ho </s><s>[INST] Bye [/INST]"},
        {"llama3", "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>"
                   "\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|><|start_header_id|>user"
                   "<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
        {"gemma", "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHo<end_of_turn>\n"
                  "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"},
        {"mistral", "<s>[INST] Be brief.\n\nHi [/INST] Ho</s>[INST] Bye [/INST]"},
        {"phi3", "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHo<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\n"},
        {"zephyr", "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHo</s>\n<|user|>\nBye</s>\n<|assistant|>\n"},
    };
    const struct mb_chat_opts opts = {.add_generation_prompt = 1};
    for (size_t i = 0; i < MB_COUNT(cases); i++) {
        struct mb_chat *chat = open_format(cases[i].format);
        const char *text;
        size_t n, same;
        assert_int_equal(mb_chat_add(chat, "system", "Be brief.", NULL), MB_OK);
        assert_int_equal(mb_chat_add(chat, "user", "Hi", NULL), MB_OK);
        assert_int_equal(mb_chat_add(chat, "assistant", "Ho", NULL), MB_OK);
        assert_int_equal(mb_chat_add(chat, "user", "Bye", NULL), MB_OK);
        assert_int_equal(mb_chat_next(chat, &opts, &text, &n, &same, NULL), MB_OK);
        assert_string_equal(text, cases[i].text);
        assert_int_equal(n, strlen(text));
        assert_string_equal(mb_chat_format((unsigned)i), cases[i].format);
        mb_chat_free(chat);
    }
    assert_null(mb_chat_format(MB_COUNT(cases)));
}

static void unknown_formats_are_named(void **state)
{
    (void)state;
    struct mb_chat *chat;
    struct mb_err err;
    assert_int_equal(mb_chat_new("chatnl", NULL, NULL, &chat, &err), MB_ENAME);
    assert_non_null(strstr(err.text, "'chatnl': unknown; there are chatml, llama2, "));
    assert_int_equal(mb_chat_new("{{ x", NULL, NULL, &chat, &err), MB_EFORMAT);
}

static int open_file(const char *name, struct mb_chat **chat, struct mb_err *err)
{
    struct mb_arena arena = {0};
    struct mb_gguf *gguf;
    assert_int_equal(mb_gguf_open(mb_arena_format(&arena, "%s/tests/data/gguf/%s", root, name), &gguf, err), MB_OK);
    int code = mb_chat_open(gguf, chat, err);
    mb_gguf_close(gguf);
    mb_arena_free(&arena);
    return code;
}

static void template_of_a_file(void **state)
{
    (void)state;
    struct mb_chat *chat;
    struct mb_err err;
    const char *text;
    size_t n, same;
    assert_int_equal(open_file("phi3.gguf", &chat, &err), MB_ENODATA);
    assert_non_null(strstr(err.text, "has none; name a format: chatml, "));
    assert_int_equal(open_file("llama.gguf", &chat, &err), MB_OK);
    assert_int_equal(mb_chat_add(chat, "user", "it's", &err), MB_OK);
    assert_int_equal(mb_chat_next(chat, NULL, &text, &n, &same, &err), MB_OK);
    assert_string_equal(text, "{'role': 'user', 'content': \"it's\"}");
    mb_chat_free(chat);
}

static void refusals_are_one_line(void **state)
{
    (void)state;
    struct mb_err err;
    char *text;
    struct mb_chat *chat = open_format("{% if messages[0].role == 'system' %}{{ raise_exception('System role\nnot supported') }}"
                                       "{% endif %}{{ messages[0].content }}{{ eos_token }}{{ word }}");
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "system", "content", "x"), *extra = json_pack("{s:s}", "word", "w");
    json_t *bad = json_pack("[{s:s}]", "content", "x");
    const struct mb_chat_opts opts = {.extra = extra};
    assert_int_equal(mb_chat_render(chat, messages, NULL, &text, NULL, &err), MB_EFORMAT);
    assert_string_equal(err.text, "chat template, line 1: System role?not supported");
    assert_int_equal(mb_chat_render(chat, bad, NULL, &text, NULL, &err), MB_EINVAL);
    assert_non_null(strstr(err.text, "messages[0]"));
    assert_int_equal(mb_chat_render(chat, extra, NULL, &text, NULL, &err), MB_EINVAL);
    assert_int_equal(mb_chat_render(chat, NULL, NULL, &text, NULL, &err), MB_EINVAL);
    json_object_set_new(json_array_get(messages, 0), "role", json_string("user"));
    assert_int_equal(mb_chat_render(chat, messages, &opts, &text, NULL, &err), MB_OK);
    assert_string_equal(text, "x</s>w");
    mb_text_free(text);
    assert_true(mb_chat_mentions(chat, "word"));
    assert_false(mb_chat_mentions(chat, "tools"));
    json_decref(messages);
    json_decref(extra);
    json_decref(bad);
    mb_chat_free(chat);
}

static void a_conversation_grows(void **state)
{
    (void)state;
    struct mb_err err;
    struct mb_chat *chat = open_format("{% for m in messages %}{{ m.content }};{% endfor %}");
    const char *text;
    size_t n, same;
    assert_int_equal(mb_chat_add(chat, "user", "añ", &err), MB_OK);
    assert_int_equal(mb_chat_next(chat, NULL, &text, &n, &same, &err), MB_OK);
    assert_string_equal(text, "añ;");
    assert_int_equal(same, 0);
    assert_int_equal(mb_chat_add(chat, "assistant", "b", &err), MB_OK);
    assert_int_equal(mb_chat_next(chat, NULL, &text, &n, &same, &err), MB_OK);
    assert_string_equal(text, "añ;b;");
    assert_int_equal(same, 4);
    assert_int_equal(mb_chat_next(chat, NULL, &text, &n, &same, &err), MB_OK);
    assert_int_equal(same, n);
    mb_chat_truncate(chat, 0);
    assert_int_equal(mb_chat_add(chat, "user", "aò", &err), MB_OK); /* shares the first byte of the second letter */
    assert_int_equal(mb_chat_next(chat, NULL, &text, &n, &same, &err), MB_OK);
    assert_int_equal(same, 1);
    assert_int_equal(mb_chat_add(chat, "user", "\xff", &err), MB_EINVAL);
    assert_int_equal(mb_chat_add_json(chat, json_integer(1), &err), MB_EINVAL);
    assert_int_equal(json_array_size(mb_chat_messages(chat)), 1);
    mb_chat_free(chat);
    mb_chat_free(NULL);
}

int main(int argc, char **argv)
{
    root = argc > 1 ? argv[1] : ".";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builtin_formats),       cmocka_unit_test(unknown_formats_are_named), cmocka_unit_test(template_of_a_file),
        cmocka_unit_test(refusals_are_one_line), cmocka_unit_test(a_conversation_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
