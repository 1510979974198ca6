/* SPDX-License-Identifier: MIT */
/* What a person names on the command line: models in the stores of other programs, on the hub or in the catalog; this machine
 * with its newest measurement, one of the catalog, or a hand-written one. The environment is read here. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

static void add_place(struct places *places, enum mb_store store, const char *base, const char *below)
{
    if (!base || !*base || places->n == MAX_STORES)
        return;
    char *path = places->paths[places->n];
    int n = snprintf(path, sizeof places->paths[0], "%s%s", base, below);
    if (n > 0 && (size_t)n < sizeof places->paths[0])
        places->stores[places->n++] = (struct mb_store_dir){store, path};
}

/* The stores of this person, by the variables that these programs document and else their usual directories. */
void find_places(struct places *places, struct mb_model_search *search)
{
    const char *home = getenv("HOME"), *cache = getenv("XDG_CACHE_HOME"), *hf_home = getenv("HF_HOME");
    const char *hub_cache = getenv("HF_HUB_CACHE"), *ollama = getenv("OLLAMA_MODELS"), *llama = getenv("LLAMA_CACHE");
    const char *token = getenv("HF_TOKEN");
    char home_cache[1024] = "";
    if (cache && *cache == '/')
        snprintf(home_cache, sizeof home_cache, "%s", cache);
    else if (home && *home == '/')
        snprintf(home_cache, sizeof home_cache, "%s/.cache", home);
    *places = (struct places){.n = 0};
    add_place(places, MB_STORE_OLLAMA, ollama ? ollama : home, ollama ? "" : "/.ollama/models");
    if (!ollama)
        add_place(places, MB_STORE_OLLAMA, "/usr/share/ollama", "/.ollama/models");
    add_place(places, MB_STORE_HF, hub_cache ? hub_cache : hf_home ? hf_home : home_cache,
              hub_cache ? "" : hf_home ? "/hub" : "/huggingface/hub");
    add_place(places, MB_STORE_LMSTUDIO, home, "/.lmstudio/models");
    add_place(places, MB_STORE_LMSTUDIO, home_cache, "/lm-studio/models");
    add_place(places, MB_STORE_LLAMACPP, llama ? llama : home_cache, llama ? "" : "/llama.cpp");
    if (*home_cache)
        snprintf(places->cache, sizeof places->cache, "%.900s/membound/headers", home_cache);
    *search = (struct mb_model_search){.stores = places->stores,
                                       .n_stores = places->n,
                                       .hub = getenv("HF_ENDPOINT"),
                                       .hub_token = token && *token ? token : NULL,
                                       .header_cache = *places->cache ? places->cache : NULL,
                                       .cancel = interrupt_flag()};
}

int open_model(const char *spec, struct mb_model **out, struct mb_err *err)
{
    struct places places;
    struct mb_model_search search;
    find_places(&places, &search);
    return mb_model_open(spec, &search, out, err);
}

int open_here(const struct mb_detect_opts *opts, struct mb_machine **out, struct mb_err *err)
{
    int code = mb_machine_detect(opts, out, err);
    char path[4096];
    struct mb_err why;
    /* With a software GPU the pools are not those that this machine really has. */
    if (code == MB_OK && !opts->root && !opts->allow_software_gpu && history_path(path, sizeof path)) {
        int loaded = mb_history_load(path, *out, &why);
        if (loaded != MB_OK && loaded != MB_ENODATA)
            fprintf(stderr, "membound: %s\n", why.text);
    }
    return code;
}

static int is_file(const char *name)
{
    size_t n = strlen(name);
    return strchr(name, '/') != NULL || (n > 5 && strcmp(name + n - 5, ".json") == 0);
}

int open_machine(const char *name, const struct mb_detect_opts *opts, struct mb_machine **out, struct mb_err *err)
{
    static const struct mb_detect_opts none = {0};
    if (!name || strcmp(name, "here") == 0)
        return open_here(opts ? opts : &none, out, err);
    return is_file(name) ? mb_machine_read(name, out, err) : mb_machine_catalog(name, out, err);
}

const struct mb_pool *pool_for(const struct mb_machine *machine, double bytes, int *holds)
{
    const struct mb_pool *best = NULL;
    *holds = 0;
    for (unsigned i = 0; i < machine->n_pools; i++) {
        const struct mb_pool *pool = machine->pools + i;
        int fits = pool->capacity_bytes.provenance != MB_UNKNOWN && pool->capacity_bytes.value >= bytes;
        if (pool->bandwidth_bytes_per_s.provenance == MB_UNKNOWN)
            continue;
        if (!best || fits > *holds ||
            (fits == *holds && pool->bandwidth_bytes_per_s.value > best->bandwidth_bytes_per_s.value)) {
            best = pool;
            *holds = fits;
        }
    }
    return best;
}
