/* SPDX-License-Identifier: MIT */
/* What a published row means: the chip behind a name, the RAM behind a host, the shape behind a model, the placement behind
 * "-ot exps=CPU". All rules are general: names are folded and looked up, numbers in the text are read; no row has a rule of its
 * own. docs/prediction.md, "the rows". */
#include "machine/chip.h"
#include "machine/machine.h"
#include "model/quant.h"
#include "plan/published.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- text ---- */

static int has(const char *text, const char *word)
{
    return strcasestr(text, word) != NULL;
}

/* The number before `unit` nearest after `from`: "614 GB/s" with unit "GB/s". NAN: none. */
static double number_before(const char *text, const char *unit)
{
    const char *at = strcasestr(text, unit);
    if (!at)
        return NAN;
    while (at > text && (at[-1] == ' ' || at[-1] == '~'))
        at--;
    const char *start = at;
    while (start > text && (isdigit((unsigned char)start[-1]) || start[-1] == '.'))
        start--;
    return start < at ? strtod(start, NULL) : NAN;
}

/* The number after `word`: "DDR5-6400" with word "DDR5-"; skips '=' and blanks. NAN: none. */
static double number_after(const char *text, const char *word)
{
    const char *at = strcasestr(text, word);
    if (!at)
        return NAN;
    at += strlen(word);
    while (*at == '=' || *at == ' ')
        at++;
    return isdigit((unsigned char)*at) ? strtod(at, NULL) : NAN;
}

/* ---- quantizations ---- */

struct quant_match {
    const char *standard; /* of the catalog */
    double factor;        /* bytes of the real one over those of the standard */
};

/* Bits per weight to the standard type nearest in size and kind. */
static struct quant_match by_bits(double bits)
{
    static const struct {
        const char *name;
        double bits;
    } types[] = {{"IQ1_M", 1.75}, {"IQ2_XXS", 2.06}, {"Q2_K", 2.63}, {"Q3_K_S", 3.44}, {"Q4_0", 4.5},
                 {"Q5_0", 5.5},   {"Q6_K", 6.56},    {"Q8_0", 8.5},  {"F16", 16}};
    unsigned best = 0;
    for (unsigned i = 1; i < MB_COUNT(types); i++) {
        if (fabs(log(types[i].bits / bits)) < fabs(log(types[best].bits / bits)))
            best = i;
    }
    return (struct quant_match){types[best].name, bits / types[best].bits};
}

static int match_quant(const char *text, struct quant_match *out)
{
    /* Types of engines beside llama.cpp. Bits are those of the formats: groups of 64 with a scale and a bias of 16 bits (MLX),
     * groups of 128 with a scale (AWQ, GPTQ), and the k, ks, kt types of ik_llama.cpp. */
    static const struct {
        const char *pattern;
        double bits;
    } other[] = {{"NVFP4", 0},    {"MXFP4", 0},    {"IQ1_KT", 1.75}, {"IQ2_KS", 2.19}, {"IQ2_KL", 2.69}, {"IQ2_K", 2.375},
                 {"IQ3_KS", 3.19}, {"IQ3_K", 3.44}, {"IQ4_KSS", 4.0}, {"IQ4_KS", 4.25}, {"IQ4_K", 4.5},   {"IQ5_KS", 5.25},
                 {"IQ5_K", 5.5},  {"IQ6_K", 6.63}, {"AWQ", 4.25},    {"GPTQ-INT8", 8.25}, {"GPTQ", 4.25}, {"INT4", 4.25},
                 {"INT8", 8.25},  {"FP8", 8.0},    {"FP16", 16},     {"GF4", 4.0},     {"2BIT", 2.5},    {"3BIT", 3.5},
                 {"4BIT", 4.5},   {"5BIT", 5.5},   {"6BIT", 6.5},    {"8BIT", 8.5},    {"4-BIT", 4.5},   {"8-BIT", 8.5}};
    static const char *const prefixes[] = {"UD-", "I1-", "MIX-", "CUSTOM ", "MLX-"};
    char name[48];
    size_t n = 0;
    for (; text[n] && text[n] != '(' && text[n] != '?' && n < sizeof name - 1; n++)
        name[n] = (char)toupper((unsigned char)text[n]);
    while (n && name[n - 1] == ' ')
        n--;
    name[n] = 0;
    if (!n) {
        *out = (struct quant_match){"Q4_K_M", 1};
        return 1;
    }
    double uncertainty;
    char *at = name;
    for (int again = 1; again;) {
        if (mb_quant_find(at, &uncertainty)) {
            *out = (struct quant_match){mb_quant_name(mb_quant_find(at, NULL)), 1};
            return 1;
        }
        again = 0;
        for (unsigned i = 0; i < MB_COUNT(prefixes); i++) {
            size_t length = strlen(prefixes[i]);
            if (strncmp(at, prefixes[i], length) == 0) {
                at += length;
                again = 1;
            }
        }
    }
    size_t length = strlen(at);
    if (length > 3 && (strcmp(at + length - 3, "_XL") == 0 || strcmp(at + length - 3, "_R4") == 0 ||
                       strcmp(at + length - 3, "_R8") == 0)) {
        at[length - 3] = 0;
        if (mb_quant_find(at, NULL)) {
            *out = (struct quant_match){mb_quant_name(mb_quant_find(at, NULL)), 1};
            return 1;
        }
        /* "Q4_K" alone is no file type. */
        char medium[56];
        snprintf(medium, sizeof medium, "%s_M", at);
        if (mb_quant_find(medium, NULL)) {
            *out = (struct quant_match){mb_quant_name(mb_quant_find(medium, NULL)), 1};
            return 1;
        }
    }
    double bits = number_before(text, "bpw");
    if (bits >= 1 && bits <= 32) {
        *out = by_bits(bits);
        return 1;
    }
    for (unsigned i = 0; i < MB_COUNT(other); i++) {
        if (!strstr(name, other[i].pattern) && !has(text, other[i].pattern))
            continue;
        if (other[i].bits > 0)
            *out = by_bits(other[i].bits);
        else
            *out = (struct quant_match){other[i].pattern, 1};
        return 1;
    }
    if (strstr(name, "MLX") || strncmp(name, "Q4", 2) == 0) {
        *out = (struct quant_match){"Q4_0", 1};
        return 1;
    }
    if (name[0] == 'Q' && isdigit((unsigned char)name[1])) {
        *out = by_bits(name[1] - '0' + 0.5);
        return 1;
    }
    return 0;
}

/* ---- models ---- */

/* What is known about each catalog model, for finding the nearest. */
struct candidate {
    const char *name, *arch;
    double params, active, head; /* head: a tied or separate table, as parameters */
    int moe;
};

struct resolver {
    struct mb_rows *rows;
    struct mb_chips *chips;
    struct candidate *candidates;
    size_t n_candidates;
    struct {
        const struct candidate *candidate;
        const char *quant;
    } *opened; /* beside rows->models */
    struct mb_err *err;
};

static int list_candidates(struct resolver *resolver)
{
    size_t n;
    const char *const *names = mb_model_names(&n);
    resolver->candidates = mb_arena_array(&resolver->rows->arena, n, sizeof(*resolver->candidates));
    if (!resolver->candidates)
        return mb_fail_memory(resolver->err);
    for (size_t i = 0; i < n; i++) {
        struct mb_model *model;
        struct mb_model_info info;
        int code = mb_model_catalog(names[i], &model, resolver->err);
        if (code)
            return code;
        mb_model_get_info(model, &info);
        struct candidate *candidate = &resolver->candidates[resolver->n_candidates++];
        *candidate = (struct candidate){names[i], mb_arena_text(&resolver->rows->arena, info.arch), (double)info.params,
                                        (double)info.active_params, (double)info.n_vocab * info.n_embd, info.n_expert > 0};
        mb_model_free(model);
    }
    return resolver->rows->arena.failed ? mb_fail_memory(resolver->err) : MB_OK;
}

static int is_moe(const struct mb_row *row)
{
    return row->moe > 0 || (row->active_b > 0 && row->params_b > 0 && row->active_b < 0.6 * row->params_b);
}

/* The catalog model of that name, else the nearest of its kind in size: same architecture before another one. */
static const struct candidate *find_model(const struct resolver *resolver, const struct mb_row *row, int *exact)
{
    const struct candidate *best = NULL;
    double best_distance = 1.6; /* about a factor of three in total and active size together */
    int moe = is_moe(row);
    *exact = 1;
    for (size_t i = 0; i < resolver->n_candidates; i++) {
        if (mb_name_compare(resolver->candidates[i].name, row->model) == 0)
            return &resolver->candidates[i];
    }
    *exact = 0;
    if (!(row->params_b > 0))
        return NULL;
    for (size_t i = 0; i < resolver->n_candidates; i++) {
        const struct candidate *c = &resolver->candidates[i];
        if (c->moe != moe)
            continue;
        double distance = fabs(log(c->params / (row->params_b * 1e9)));
        if (moe && row->active_b > 0)
            distance += fabs(log((c->active + c->head) / (row->active_b * 1e9)));
        if (*row->arch && mb_name_compare(c->arch, row->arch) != 0)
            distance += 0.35;
        if (distance < best_distance) {
            best = c;
            best_distance = distance;
        }
    }
    return best;
}

static struct mb_model *open_model(struct resolver *resolver, const struct candidate *candidate, const char *quant)
{
    struct mb_rows *rows = resolver->rows;
    char spec[160];
    for (unsigned i = 0; i < rows->n_models; i++) {
        if (resolver->opened[i].candidate == candidate && strcmp(resolver->opened[i].quant, quant) == 0)
            return rows->models[i];
    }
    snprintf(spec, sizeof spec, "%s@%s", candidate->name, quant);
    struct mb_model *model;
    if (mb_model_catalog(spec, &model, NULL))
        return NULL;
    resolver->opened[rows->n_models].candidate = candidate;
    resolver->opened[rows->n_models].quant = quant;
    rows->models[rows->n_models++] = model;
    return model;
}

static const char *resolve_model(struct resolver *resolver, struct mb_row *row)
{
    struct quant_match quant;
    const struct candidate *candidate = find_model(resolver, row, &row->exact_model);
    if (!candidate)
        return row->params_b > 0 ? "no model of the catalog is near this one" : "unknown model without params_b";
    if (!match_quant(row->quant, &quant))
        return "unknown quantization";
    struct mb_model *model = open_model(resolver, candidate, quant.standard);
    if (!model || mb_load_build(model, 1, NULL, &row->load, NULL))
        return "the model can't be counted";
    row->catalog_model = candidate->name;
    double params = row->exact_model ? candidate->params : row->params_b * 1e9, factor = quant.factor;
    /* Bits per weight of the real file over those of the rules. */
    if (row->size_gib > 0)
        factor = row->size_gib * MB_GIB / params / ((double)model->file_bytes / candidate->params);
    if (factor < 0.3 || factor > 3)
        return "size_gib does not fit the model and the quantization";
    if (!row->exact_model && candidate->moe)
        factor *= row->active_b > 0 ? row->active_b * 1e9 / (candidate->active + candidate->head) : 1;
    else if (!row->exact_model)
        factor *= params / candidate->params;
    mb_load_scale(row->load, factor);
    return NULL;
}

/* ---- chips and machines ---- */

static double cores_in(const char *text)
{
    /* "M2 Max 30c 32GB", "40-core GPU" */
    for (const char *at = text; (at = strpbrk(at, "0123456789")); at += strspn(at, "0123456789")) {
        size_t digits = strspn(at, "0123456789");
        if (digits == 2 && ((at[2] == 'c' && !isalpha((unsigned char)at[3])) || strncasecmp(at + 2, "-core GPU", 9) == 0))
            return strtod(at, NULL);
    }
    return NAN;
}

/* The chip of the catalog with that key; of several (Apple sells one name with different core counts) the one whose cores and
 * bandwidth are told, else the one with the most cores. */
static const struct mb_chip *find_chip(const struct mb_chips *chips, const char *key, enum mb_chip_kind avoid, double cores,
                                       double bandwidth)
{
    const struct mb_chip *best = NULL;
    double best_score = -1;
    char other[96];
    if (!*key)
        return NULL;
    for (size_t i = 0; i < mb_chips_count(chips); i++) {
        const struct mb_chip *chip = mb_chips_at(chips, i);
        if (!chip || chip->kind == avoid || strcmp(mb_chip_key(chip->name, other, sizeof other), key) != 0)
            continue;
        double score = 1 + chip->n_gpu_cores / 1e3;
        if (chip->n_gpu_cores == cores)
            score += 2;
        if (mb_figure_known(&chip->bandwidth_bytes_per_s) &&
            fabs(chip->bandwidth_bytes_per_s.value / (bandwidth * 1e9) - 1) < 0.03)
            score += 4;
        if (score > best_score) {
            best = chip;
            best_score = score;
        }
    }
    return best;
}

/* Bandwidth of RAM in GB/s from what people write about it: a figure, or channels and transfers. NAN: they don't say. */
static double ram_gbs(const char *text)
{
    double channels = NAN, mega = NAN, sockets = 1;
    double stated = number_before(text, "GB/s");
    if (stated > 0)
        return stated;
    mega = number_after(text, "DDR5-");
    if (!(mega > 0))
        mega = number_after(text, "DDR4-");
    if (!(mega > 0))
        mega = number_after(text, "DDR3-");
    channels = number_before(text, "ch ");
    if (!(channels > 0))
        channels = number_before(text, "-channel");
    if (!(channels > 0) && has(text, "quad"))
        channels = 4;
    if (!(channels > 0) && has(text, "dual-ch"))
        channels = 2;
    if (has(text, "2x Xeon") || has(text, "2x EPYC"))
        sockets = 2; /* one socket's memory is what one thread team reads well */
    if (!(mega > 0) && channels > 0)
        mega = has(text, "DDR5") ? 4800 : has(text, "DDR4") ? 2933 : NAN;
    if (!(channels > 0) && mega > 0)
        channels = 2;
    double rate = channels * mega * 8e-3 / sockets;
    return rate > 5 && rate < 5000 ? rate : NAN;
}

/* The part of "RTX 5090 + EPYC 9355" that names the CPU, or the whole text. */
static const char *cpu_part(const char *machine)
{
    const char *plus = strstr(machine, " + ");
    const char *colon = strstr(machine, "CPU: ");
    return plus ? plus + 3 : colon ? colon + 5 : machine;
}

static const struct mb_chip *find_cpu(const struct mb_chips *chips, const char *text)
{
    /* All words of the catalog's name that tell CPUs apart must stand in the text. */
    const struct mb_chip *best = NULL;
    unsigned best_words = 0;
    char words[16][24], mine[16][24];
    unsigned n_mine = mb_chip_words(text, mine, 16);
    for (size_t i = 0; i < mb_chips_count(chips); i++) {
        const struct mb_chip *chip = mb_chips_at(chips, i);
        unsigned found = 0, wanted = 0;
        if (!chip || chip->kind != MB_CHIP_CPU)
            continue;
        unsigned n = mb_chip_words(chip->name, words, 16);
        for (unsigned w = 0; w < n; w++) {
            static const char *const filler[] = {"amd", "intel", "ryzen", "threadripper", "core", "platinum", "gold",
                                                 "pro", "ultra"};
            int ignored = 0;
            for (unsigned f = 0; f < MB_COUNT(filler); f++)
                ignored |= strcmp(words[w], filler[f]) == 0;
            if (ignored)
                continue;
            wanted++;
            for (unsigned m = 0; m < n_mine; m++) {
                if (strcmp(words[w], mine[m]) == 0) {
                    found++;
                    break;
                }
            }
        }
        if (wanted && found == wanted && wanted > best_words) {
            best = chip;
            best_words = wanted;
        }
    }
    return best;
}

static struct mb_figure stated(double gbs)
{
    return gbs > 0 ? mb_figure_of(gbs * 1e9, MB_SPEC, "the row") : mb_figure_of(0, MB_UNKNOWN, NULL);
}

static unsigned add_ram(struct mb_machine *machine, double gbs, unsigned *out_cpu, const char *cpu_name)
{
    struct mb_pool pool = {.id = "ram", .kind = MB_POOL_SYSTEM, .bandwidth_bytes_per_s = stated(gbs)};
    struct mb_processor cpu = {.id = "cpu", .name = cpu_name, .kind = MB_PROCESSOR_CPU};
    unsigned index = mb_machine_add_pool(machine, &pool);
    *out_cpu = mb_machine_add_processor(machine, &cpu);
    mb_machine_add_read(machine, *out_cpu, index, stated(gbs));
    return index;
}

/* What a GPU pool holds at most: 94 % of the card, a gibibyte less for buffers. */
static double gpu_room(const struct mb_row *row)
{
    return row->mem_gb > 0 ? row->mem_gb * 0.94 * MB_GIB - MB_GIB : INFINITY;
}

static const char *set_backend(struct mb_row *row)
{
    const char *text = row->backend;
    if (strcmp(text, "hybrid") == 0)
        row->row_class = MB_ROW_HYBRID;
    else if (strcmp(text, "cpu") == 0)
        row->row_class = MB_ROW_CPU;
    else
        row->row_class = is_moe(row) ? MB_ROW_MOE : MB_ROW_DENSE;
    if (row->row_class != MB_ROW_HYBRID && mb_backend_by_name(text, &row->gpu_backend) != MB_OK)
        return "unknown backend";
    return NULL;
}

static enum mb_backend hybrid_backend(const struct mb_row *row)
{
    if (has(row->chip, "RTX") || has(row->chip, "GTX") || has(row->chip, "A100") || has(row->chip, "H100") ||
        has(row->chip, "Tesla") || has(row->chip, "L40") || has(row->chip, "P40"))
        return MB_BACKEND_CUDA;
    if (has(row->chip, "gfx"))
        return MB_BACKEND_ROCM;
    return MB_BACKEND_VULKAN;
}

static void set_engine(struct mb_row *row)
{
    const char *engine = row->engine, *key = "llama.cpp";
    int gpu = row->gpu_backend != MB_BACKEND_CPU;
    if (row->gpu_backend == MB_BACKEND_METAL && (has(engine, "mlx") || has(row->quant, "ollama -mlx")))
        key = "mlx";
    else if (strcasecmp(engine, "ollama") == 0)
        key = "ollama";
    else if (has(engine, "ik_llama") || has(engine, "ktransformers"))
        key = "ik_llama.cpp";
    else if ((has(engine, "vllm") || has(engine, "exllama")) && row->gpu_backend == MB_BACKEND_CUDA)
        key = "vllm";
    if (!mb_profile_find(key, row->gpu_backend) || (row->row_class == MB_ROW_HYBRID && !mb_profile_find(key, MB_BACKEND_CPU)))
        key = "llama.cpp";
    snprintf(row->engine_key, sizeof row->engine_key, "%s%s%s", key, gpu ? ":" : "",
             gpu ? mb_backend_name(row->gpu_backend) : "");
}

static const char *maker_of(enum mb_backend backend)
{
    return backend == MB_BACKEND_CUDA ? "NVIDIA " : backend == MB_BACKEND_METAL ? "Apple " : "";
}

static const char *add_gpu(struct resolver *resolver, struct mb_row *row, struct mb_machine *machine, unsigned *out_pool)
{
    struct mb_arena *arena = mb_machine_arena(machine);
    const struct mb_chip *chip = find_chip(resolver->chips, row->chip_key, MB_CHIP_CPU, cores_in(row->machine),
                                           row->bandwidth_gbs);
    struct mb_pool pool = {.id = "gpu", .kind = MB_POOL_VRAM, .bandwidth_bytes_per_s = stated(row->bandwidth_gbs)};
    struct mb_processor gpu = {.id = "gpu0", .kind = MB_PROCESSOR_GPU};
    if (chip && chip->kind == MB_CHIP_SOC)
        pool.kind = MB_POOL_UNIFIED;
    if (!(row->bandwidth_gbs > 0) && chip)
        pool.bandwidth_bytes_per_s = chip->bandwidth_bytes_per_s;
    if (!mb_figure_known(&pool.bandwidth_bytes_per_s))
        return "the chip is unknown and bw_gbs_spec is empty";
    pool.capacity_bytes = row->mem_gb > 0 ? mb_figure_of(row->mem_gb * MB_GIB, MB_SPEC, "the row") : pool.capacity_bytes;
    gpu.integrated = pool.kind == MB_POOL_UNIFIED;
    gpu.n_cores = chip ? chip->n_gpu_cores : 0;
    gpu.name = mb_arena_format(arena, "%s%s", has(row->chip, "RTX") || has(row->chip, "GTX") || !chip
                                                  ? maker_of(row->gpu_backend)
                                                  : "",
                               chip && !has(row->chip, "RTX") && !has(row->chip, "GTX") ? chip->name : row->chip);
    *out_pool = mb_machine_add_pool(machine, &pool);
    unsigned processor = mb_machine_add_processor(machine, &gpu);
    mb_machine_add_read(machine, processor, *out_pool, pool.bandwidth_bytes_per_s);
    for (unsigned i = 0; chip && i < chip->n_peaks; i++)
        mb_machine_add_peak(machine, processor, mb_arena_text(arena, chip->peaks[i].type), chip->peaks[i].flops_per_s);
    return NULL;
}

static double host_gbs(struct resolver *resolver, struct mb_row *row)
{
    char text[1200];
    snprintf(text, sizeof text, "%s; %s; %s", cpu_part(row->machine), row->notes, row->row_class == MB_ROW_CPU ? row->chip : "");
    double gbs = ram_gbs(text);
    const struct mb_chip *cpu = find_cpu(resolver->chips, cpu_part(row->machine));
    if (!(gbs > 0) && cpu && mb_figure_known(&cpu->bandwidth_bytes_per_s))
        gbs = cpu->bandwidth_bytes_per_s.value / 1e9;
    if (gbs > 0 || row->row_class == MB_ROW_CPU)
        return gbs;
    /* A PC of which nothing is said has two channels: of DDR4 beside cards before the RTX 30, of DDR5 since. */
    row->ram_assumed = 1;
    return has(row->chip, "GTX") || has(row->chip, "RTX 20") ? 2 * 3200 * 8e-3 : 2 * 5600 * 8e-3;
}

/* The CPU of a system on a chip reads about so much of its memory's bandwidth (M1 Max: 243 of 400 GB/s). */
#define SOC_CPU_SHARE 0.6

static const char *resolve_machine(struct resolver *resolver, struct mb_row *row, unsigned *gpu_pool, unsigned *ram_pool)
{
    char key[96];
    row->chip_key = mb_arena_text(&resolver->rows->arena, mb_chip_key(row->chip, key, sizeof key));
    const char *reason = set_backend(row);
    if (reason)
        return reason;
    if (row->row_class == MB_ROW_HYBRID)
        row->gpu_backend = hybrid_backend(row);
    set_engine(row);
    row->owned_machine = mb_machine_new(MB_ORIGIN_FILE);
    if (!row->owned_machine || !row->chip_key)
        return "out of memory";
    row->owned_machine->name = row->machine;
    *gpu_pool = *ram_pool = UINT32_MAX;
    if (row->gpu_backend != MB_BACKEND_CPU && (reason = add_gpu(resolver, row, row->owned_machine, gpu_pool)))
        return reason;
    if (row->row_class == MB_ROW_HYBRID || row->row_class == MB_ROW_CPU) {
        unsigned cpu;
        double gbs = row->row_class == MB_ROW_CPU && row->bandwidth_gbs > 0 ? row->bandwidth_gbs : host_gbs(resolver, row);
        if (row->row_class == MB_ROW_CPU && row->bandwidth_gbs > 0 && (has(row->machine, "2x ") || has(row->machine, "dual")))
            gbs /= 2; /* the figure is that of both sockets */
        const struct mb_chip *soc = find_chip(resolver->chips, row->chip_key, MB_CHIP_CPU, NAN, row->bandwidth_gbs);
        if (row->row_class == MB_ROW_CPU && soc && soc->kind == MB_CHIP_SOC)
            gbs = mb_figure_known(&soc->cpu_read_bytes_per_s) ? soc->cpu_read_bytes_per_s.value / 1e9 : gbs * SOC_CPU_SHARE;
        if (!(gbs > 0))
            return "the bandwidth of the host's RAM is unknown";
        *ram_pool = add_ram(row->owned_machine, gbs, &cpu, row->row_class == MB_ROW_CPU ? row->chip : cpu_part(row->machine));
        if (*gpu_pool != UINT32_MAX) {
            struct mb_link link = {.from = *ram_pool, .to = *gpu_pool, .name = "PCIe"};
            link.bytes_per_s = mb_figure_of(mb_pcie_bytes_per_s(has(row->chip, "RTX 50") ? 5 : 4, 16), MB_DERIVED, "x16 assumed");
            mb_machine_add_link(row->owned_machine, &link);
        }
    }
    return mb_machine_finish(row->owned_machine, NULL) ? "out of memory" : NULL;
}

/* ---- placement ---- */

static int layer_parts_in(const struct mb_load *load, uint32_t unit, double first, double last)
{
    double layer = load->units[unit].layer;
    return layer >= first && layer <= last;
}

/* "blk 3-9": the first range of numbers after the word. */
static int range_after(const char *text, const char *word, double *first, double *last)
{
    const char *at = strcasestr(text, word);
    char *end;
    if (!at)
        return 0;
    at += strlen(word);
    while (*at == ' ')
        at++;
    if (!isdigit((unsigned char)*at))
        return 0;
    *first = *last = strtod(at, &end);
    if (*end == '-' && isdigit((unsigned char)end[1]))
        *last = strtod(end + 1, NULL);
    return 1;
}

static void put_all(struct mb_row *row, unsigned pool)
{
    memset(row->pools, (int)pool, row->load->n_units);
}

/* The FFN or the experts of layers first..last go to a pool. */
static void put_ffn(struct mb_row *row, unsigned pool, double first, double last)
{
    for (uint32_t i = 0; i < row->load->n_units; i++) {
        enum mb_unit_kind kind = row->load->units[i].kind;
        if ((kind == MB_UNIT_EXPERTS || (kind == MB_UNIT_FFN && !row->load->moe)) && layer_parts_in(row->load, i, first, last))
            row->pools[i] = (uint8_t)pool;
    }
}

/* Whole layers from the front stay in RAM, as -ngl does it. */
static void put_layers(struct mb_row *row, unsigned gpu, unsigned ram, double n_gpu_layers)
{
    double n = row->load->n_layers, first = n - n_gpu_layers;
    put_all(row, ram);
    for (uint32_t i = 0; i < row->load->n_units; i++) {
        int32_t layer = row->load->units[i].layer;
        if (layer >= 0 ? layer >= first : n_gpu_layers > n)
            row->pools[i] = (uint8_t)gpu;
    }
}

/* Nobody says how it was split: fill the card as engines do, experts first where there are some. */
static void put_automatic(struct mb_row *row, unsigned gpu, unsigned ram)
{
    const struct mb_load *load = row->load;
    double room = gpu_room(row), others = 0;
    put_all(row, gpu);
    for (uint32_t i = 0; i < load->n_units; i++) {
        enum mb_unit_kind kind = load->units[i].kind;
        if (kind != MB_UNIT_EXPERTS && kind != MB_UNIT_EMBEDDING && kind != MB_UNIT_LAYER_EMBEDDING && kind != MB_UNIT_UNREAD)
            others += (double)load->units[i].resident_bytes;
    }
    if (load->moe) {
        /* -ncmoe N: the experts of the first layers stay in RAM, those of the last ones fit. */
        for (uint32_t i = load->n_units; i-- > 0;) {
            if (load->units[i].kind != MB_UNIT_EXPERTS)
                continue;
            others += (double)load->units[i].resident_bytes;
            if (others > room)
                row->pools[i] = (uint8_t)ram;
        }
        return;
    }
    double per_layer = (double)load->resident_bytes / (load->n_layers + 1.0);
    double n = floor(room / per_layer);
    put_layers(row, gpu, ram, n < 0 ? 0 : n);
}

static void place_hybrid(struct mb_row *row, unsigned gpu, unsigned ram)
{
    const char *text = row->offload;
    double first, last, n = number_after(text, "n-cpu-moe");
    put_all(row, gpu);
    if (!(n >= 0))
        n = number_after(text, "ncmoe");
    if (n >= 0) {
        put_ffn(row, ram, 0, n - 1);
    } else if (has(text, "exps") || (has(text, "experts") && has(text, "CPU"))) {
        put_ffn(row, ram, 0, MB_LAYERS_MAX);
        if ((has(text, "except") || has(text, "on GPU")) && range_after(text, "blk", &first, &last))
            put_ffn(row, gpu, first, last);
    } else if (has(text, "ffn") && has(text, "CPU") && range_after(text, "blk", &first, &last)) {
        put_ffn(row, ram, first, last);
    } else if ((n = number_after(text, "ngl")) >= 0 || (n = number_before(text, "layers on GPU")) >= 0) {
        put_layers(row, gpu, ram, n);
    } else {
        put_automatic(row, gpu, ram);
    }
}

/* ---- sanity ---- */

/* Months since January 2023 from "2026-05-17", "2024-05 builds", "20260425". */
static double months_of(const char *date)
{
    double year = 0, month = 6;
    if (strspn(date, "0123456789") >= 8) {
        year = (date[0] - '0') * 1000 + (date[1] - '0') * 100 + (date[2] - '0') * 10 + (date[3] - '0');
        month = (date[4] - '0') * 10 + (date[5] - '0');
    } else if (strspn(date, "0123456789") == 4) {
        year = strtod(date, NULL);
        if (date[4] == '-' && isdigit((unsigned char)date[5]) && isdigit((unsigned char)date[6]))
            month = strtod(date + 5, NULL);
    }
    return year >= 2022 && year < 2100 ? (year - 2023) * 12 + month - 1 : NAN;
}

static const char *resolve_depth(struct mb_row *row)
{
    double depth = row->depth >= 0 ? row->depth : 0, tokens = row->tokens > 0 ? row->tokens : 128;
    double prompt = number_after(row->notes, "prompt");
    if (depth == 0 && prompt > 0 && prompt < 1e6)
        depth = prompt; /* "server run, prompt 751 tokens" */
    else if (depth == 0 && has(row->notes, "decode follows") && row->prompt_tokens > 0)
        depth = row->prompt_tokens;
    row->mean_depth = depth + tokens / 2;
    row->months = months_of(row->date);
    return row->mean_depth > MB_DEPTH_MAX ? "ctx_depth is beyond any context" : NULL;
}

/* No memory system can read faster than its bandwidth: then it was not one token per pass, or not this model. */
static const char *check_bound(const struct mb_row *row)
{
    struct mb_cost cost;
    struct mb_prediction prediction;
    struct mb_err err;
    if (mb_cost_init(&cost, row->owned_machine, row->engine_key, &err))
        return "no engine profile for this machine";
    if (mb_predict_decode(&cost, row->load, row->pools, row->mean_depth, &prediction, &err))
        return "can't be predicted";
    if (row->tps > 1.12 * prediction.bound_tokens_per_s)
        return "faster than the memory can be read: several tokens per pass, or another model";
    if (row->tps < 0.02 * prediction.bound_tokens_per_s)
        return "a fiftieth of what the memory allows: swapping, or another unit";
    return NULL;
}

static const char *resolve_row(struct resolver *resolver, struct mb_row *row)
{
    unsigned gpu, ram;
    const char *reason;
    if (!(row->tps > 0))
        return "no decode speed";
    if ((reason = resolve_depth(row)) || (reason = resolve_machine(resolver, row, &gpu, &ram)) ||
        (reason = resolve_model(resolver, row)))
        return reason;
    row->pools = mb_arena_alloc(&resolver->rows->arena, row->load->n_units);
    if (!row->pools)
        return "out of memory";
    if (row->row_class == MB_ROW_HYBRID && has(row->offload, "RPC"))
        return "several machines";
    if (row->row_class == MB_ROW_HYBRID)
        place_hybrid(row, gpu, ram);
    else
        put_all(row, gpu != UINT32_MAX ? gpu : ram);
    return check_bound(row);
}

int mb_rows_resolve(struct mb_rows *rows, struct mb_err *err)
{
    struct resolver resolver = {.rows = rows, .err = err};
    rows->models = mb_arena_array(&rows->arena, rows->n_rows + 1, sizeof(*rows->models));
    resolver.opened = mb_arena_array(&rows->arena, rows->n_rows + 1, sizeof(*resolver.opened));
    if (!rows->models || !resolver.opened)
        return mb_fail_memory(err);
    int code = list_candidates(&resolver);
    if (!code)
        code = mb_chips_open(&resolver.chips, err);
    for (unsigned i = 0; i < rows->n_rows && !code; i++)
        rows->rows[i].skip = resolve_row(&resolver, &rows->rows[i]);
    mb_chips_close(resolver.chips);
    return code ? code : rows->arena.failed ? mb_fail_memory(err) : MB_OK;
}
