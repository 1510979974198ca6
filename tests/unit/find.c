/* SPDX-License-Identifier: MIT */
/* Suite for src/model/find.c: made-up stores in a temporary directory. */
#include "base/base.h"
#include "model/find.h"

#include <setjmp.h>
#include <stdarg.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define SUPPORT_DIR
#include "support.h"

static void make_parents(const char *path)
{
    char part[PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    for (char *p = part + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(part, 0700);
        *p = '/';
    }
}

static void write_text(const char *path, const char *text)
{
    make_parents(path);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* A file of n bytes that nobody reads. */
static void make_file(const char *path, off_t n)
{
    write_text(path, "");
    assert_int_equal(truncate(path, n), 0);
}

static void link_to(const char *target, const char *path)
{
    make_parents(path);
    assert_int_equal(symlink(target, path), 0);
}

static void write_manifest(const char *where, const char *digest, long size, const char *type)
{
    char text[1000];
    snprintf(
        text, sizeof text,
        "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:00\",\"size\":3},\"layers\":["
        "{\"mediaType\":\"application/vnd.ollama.image.license\",\"digest\":\"sha256:11\",\"size\":5},"
        "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%ld}]}",
        type, digest, size);
    write_text(in_dir("ollama/manifests/%s", where), text);
}

static char hex[3][65];

static void make_stores(void)
{
    static const char model[] = "application/vnd.ollama.image.model";
    char digest[3][80];
    for (unsigned i = 0; i < 3; i++) {
        memset(hex[i], 'a' + (int)i, 64);
        snprintf(digest[i], sizeof digest[i], "sha256:%s", hex[i]);
        if (i < 2)
            make_file(in_dir("ollama/blobs/sha256-%s", hex[i]), 1000 + (off_t)i);
    }
    write_manifest("registry.ollama.ai/library/gemma3/4b", digest[0], 1000, model);
    write_manifest("registry.ollama.ai/library/gemma3/latest", digest[0], 1000, model);
    write_manifest("registry.ollama.ai/someone/tuned/q8", digest[1], 1001, model);
    write_manifest("hf.co/owner/Repo-GGUF/Q4_K_M", digest[1], 1001, model);
    write_manifest("registry.ollama.ai/library/partial/1b", digest[1], 5000, model);
    write_manifest("registry.ollama.ai/library/gone/1b", digest[2], 1000, model);
    write_manifest("registry.ollama.ai/library/tensors/1b", digest[0], 1000,
                   "application/vnd.ollama.image.tensor");
    write_manifest("registry.ollama.ai/library/evil/1b", "sha256:../../../../../etc/passwd", 0,
                   model);
    write_text(in_dir("ollama/manifests/registry.ollama.ai/library/broken/1b"), "{\"layers\":[{]");
    write_text(in_dir("ollama/manifests/registry.ollama.ai/library/odd/1b"),
               "{\"layers\":{\"a\":[1,null]}}");
    write_text(in_dir("ollama/manifests/registry.ollama.ai/library/empty/1b"), "");

    make_file(in_dir("hub/models--ggml-org--Qwen3-8B-GGUF/blobs/b1"), 2000);
    make_file(in_dir("hub/models--ggml-org--Qwen3-8B-GGUF/blobs/b2"), 2100);
    link_to("../../blobs/b1",
            in_dir("hub/models--ggml-org--Qwen3-8B-GGUF/snapshots/r1/Qwen3-8B-Q4_K_M.gguf"));
    link_to("../../blobs/b1",
            in_dir("hub/models--ggml-org--Qwen3-8B-GGUF/snapshots/r2/Qwen3-8B-Q4_K_M.gguf"));
    link_to("../../../blobs/b2",
            in_dir("hub/models--ggml-org--Qwen3-8B-GGUF/snapshots/r2/Q8/Qwen3-8B-Q8_0.gguf"));
    link_to("../../blobs/none",
            in_dir("hub/models--ggml-org--Qwen3-8B-GGUF/snapshots/r2/Qwen3-8B-Q2_K.gguf"));
    link_to("../../blobs/b2",
            in_dir("hub/models--ggml-org--Qwen3-8B-GGUF/snapshots/r2/mmproj-Qwen3-8B.gguf"));
    make_file(in_dir("hub/models--ggml-org--Qwen3-8B-GGUF/snapshots/r2/README.md"), 5);
    make_file(in_dir("hub/datasets--a--b/snapshots/r1/data.gguf"), 5);

    for (int i = 1; i <= 3; i++)
        make_file(in_dir("lmstudio/bartowski/Big-GGUF/Big-IQ4_XS-%05d-of-00003.gguf", i),
                    300 + i);
    make_file(in_dir("lmstudio/bartowski/Twin-GGUF/Twin-Q4_0.gguf"), 77);
    make_file(in_dir("lmstudio/other/Twin-GGUF/Twin-Q4_0.gguf"), 78);
    make_file(in_dir("lmstudio/other/Twin-GGUF/model-MMPROJ-f16.gguf"), 78);
    link_to("..", in_dir("lmstudio/other/loop"));
    assert_int_equal(mkfifo(in_dir("lmstudio/other/pipe.gguf"), 0600), 0);
    mkdir(in_dir("lmstudio/other/dir.gguf"), 0700);

    make_file(in_dir("llama.cpp/ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M.gguf"), 50);
    make_file(in_dir("llama.cpp/plain.gguf"), 51);
    make_file(
        in_dir(
            "llama.cpp/ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M.gguf.downloadInProgress"),
        9);
    make_file(in_dir("llama.cpp/.gguf"), 9);
}

static struct mb_found_list *list_stores(void)
{
    char paths[4][PATH_MAX];
    static const char *const names[] = {"ollama", "hub", "lmstudio", "llama.cpp"};
    struct mb_store_dir dirs[6] = {{MB_STORE_OLLAMA, NULL}, {MB_STORE_HF, "/nonexistent/membound"}};
    for (unsigned i = 0; i < 4; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/%s", dir, names[i]);
        dirs[2 + i] = (struct mb_store_dir){(enum mb_store)i, paths[i]};
    }
    struct mb_found_list *list = NULL;
    struct mb_err err;
    assert_int_equal(mb_models_found(&(struct mb_model_search){.stores = dirs, .n_stores = MB_COUNT(dirs)}, &list, &err), MB_OK);
    return list;
}

static void stores_are_listed(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t bytes;
        unsigned n_parts;
        enum mb_store store;
    } expected[] = {
        {"Big-IQ4_XS", 301 + 302 + 303, 3, MB_STORE_LMSTUDIO},
        {"Qwen3-8B-Q4_K_M", 2000, 1, MB_STORE_HF},
        {"Qwen3-8B-Q8_0", 2100, 1, MB_STORE_HF},
        {"Twin-Q4_0", 77, 1, MB_STORE_LMSTUDIO},
        {"Twin-Q4_0", 78, 1, MB_STORE_LMSTUDIO},
        {"gemma-3-1b-it-Q4_K_M", 50, 1, MB_STORE_LLAMACPP},
        {"gemma3:4b", 1000, 1, MB_STORE_OLLAMA},
        {"gemma3:latest", 1000, 1, MB_STORE_OLLAMA},
        {"hf.co/owner/Repo-GGUF:Q4_K_M", 1001, 1, MB_STORE_OLLAMA},
        {"plain", 51, 1, MB_STORE_LLAMACPP},
        {"someone/tuned:q8", 1001, 1, MB_STORE_OLLAMA},
    };
    struct mb_found_list *list = list_stores();
    for (unsigned i = 0; i < list->n_rows; i++)
        if (i >= MB_COUNT(expected) || strcmp(list->rows[i].name, expected[i].name) != 0)
            fail_msg("row %u is %s at %s", i, list->rows[i].name, list->rows[i].path);
    assert_int_equal(list->n_rows, MB_COUNT(expected));
    for (unsigned i = 0; i < list->n_rows; i++) {
        assert_int_equal(list->rows[i].bytes, expected[i].bytes);
        assert_int_equal(list->rows[i].n_parts, expected[i].n_parts);
        assert_int_equal(list->rows[i].store, expected[i].store);
        assert_int_equal(access(list->rows[i].path, R_OK), 0);
    }
    assert_string_equal(list->rows[0].path,
                        in_dir("lmstudio/bartowski/Big-GGUF/Big-IQ4_XS-00001-of-00003.gguf"));
    assert_string_equal(list->rows[6].path, in_dir("ollama/blobs/sha256-%s", hex[0]));
    mb_found_free(list);
}

static void names_find_models(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t bytes; /* 0: not found */
        const char *text;
    } cases[] = {
        {"gemma3:4b", 1000, NULL},
        {"gemma3", 1000, NULL}, /* what Ollama means by it: gemma3:latest */
        {"GEMMA3:4B", 1000, NULL},
        {"qwen3-8b-q8_0", 2100, NULL},
        {"Qwen3-8B-Q8_0.gguf", 2100, NULL},
        {"Big-IQ4_XS", 906, NULL},
        {"other/Twin-GGUF/Twin-Q4_0.gguf", 78, NULL},
        {"Twin-Q4_0", 0, "several models have this name"},
        {"twin q4_0", 0, "several models have this name"},
        {"qwen3-8b-q9_0", 0, "is it Qwen3-8B-Q8_0"},
        {"xyzzy", 0, "give the path of a GGUF file"},
        {"", 0, "no model of this name"},
    };
    struct mb_found_list *list = list_stores();
    for (size_t i = 0; i < MB_COUNT(cases); i++) {
        const struct mb_found *found = NULL;
        struct mb_err err = {0};
        int code = mb_find_model(list, cases[i].name, &found, &err);
        int several = cases[i].text && strstr(cases[i].text, "several");
        if (code != (cases[i].bytes ? MB_OK : several ? MB_EINVAL : MB_ENAME) ||
            (cases[i].text && !strstr(err.text, cases[i].text)))
            fail_msg("%s: %d \"%s\"", cases[i].name, code, err.text);
        if (found)
            assert_int_equal(found->bytes, cases[i].bytes);
        else
            assert_int_equal(cases[i].bytes, 0);
    }
    mb_found_free(list);
}

static void nothing_is_an_empty_list(void **state)
{
    (void)state;
    struct mb_found_list *list = NULL;
    const struct mb_found *found = NULL;
    struct mb_err err;
    assert_int_equal(mb_models_found(&(struct mb_model_search){0}, &list, &err), MB_OK);
    assert_int_equal(list->n_rows, 0);
    assert_int_equal(mb_find_model(list, "gemma3", &found, &err), MB_ENAME);
    assert_null(found);
    mb_found_free(list);
    mb_found_free(NULL);
}

static int make_dir_and_stores(void **state)
{
    if (make_dir(state) != 0)
        return -1;
    make_stores();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stores_are_listed),
        cmocka_unit_test(names_find_models),
        cmocka_unit_test(nothing_is_an_empty_list),
    };
    return cmocka_run_group_tests_name("find", tests, make_dir_and_stores, remove_dir);
}
