/* SPDX-License-Identifier: MIT */
/* NVML by dlopen, with only the part of its interface that we use (NVIDIA's NVML API reference: the
 * structures and numbers below are part of its stable binary interface), and the same facts from a
 * recorded machine. */
#include "machine/nvml.h"
#include "machine/clean.h"

#include <dlfcn.h>
#include <string.h>

enum { GPUS_MAX = 64, JSON_BYTES_MAX = 1 << 20 };

/* ---- the live library ---- */

enum {
    NVML_SUCCESS = 0,
    NVML_DRIVER_NOT_LOADED = 9,
    NVML_VERSION_MISMATCH = 18,
    NVML_CLOCK_MEM = 2,
    NVML_MIG_ON = 1
};

typedef struct nvml_device_handle *nvml_device;

struct nvml_memory {
    unsigned long long total, free, used;
};

struct nvml_pci {
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id, subsystem_id;
    char bus_id[32];
};

/* X(field, symbol, parameters): every call returns an NVML code. */
#define NVML_CALLS(X)                                                                  \
    X(init, "nvmlInit_v2", (void))                                                     \
    X(shutdown, "nvmlShutdown", (void))                                                \
    X(driver, "nvmlSystemGetDriverVersion", (char *, unsigned))                        \
    X(count, "nvmlDeviceGetCount_v2", (unsigned *))                                    \
    X(handle, "nvmlDeviceGetHandleByIndex_v2", (unsigned, nvml_device *))              \
    X(name, "nvmlDeviceGetName", (nvml_device, char *, unsigned))                      \
    X(pci, "nvmlDeviceGetPciInfo_v3", (nvml_device, struct nvml_pci *))                \
    X(memory, "nvmlDeviceGetMemoryInfo", (nvml_device, struct nvml_memory *))          \
    X(max_generation, "nvmlDeviceGetMaxPcieLinkGeneration", (nvml_device, unsigned *)) \
    X(max_width, "nvmlDeviceGetMaxPcieLinkWidth", (nvml_device, unsigned *))           \
    X(generation, "nvmlDeviceGetCurrPcieLinkGeneration", (nvml_device, unsigned *))    \
    X(width, "nvmlDeviceGetCurrPcieLinkWidth", (nvml_device, unsigned *))              \
    X(power_limit, "nvmlDeviceGetEnforcedPowerLimit", (nvml_device, unsigned *))       \
    X(bus_width, "nvmlDeviceGetMemoryBusWidth", (nvml_device, unsigned *))             \
    X(max_clock, "nvmlDeviceGetMaxClockInfo", (nvml_device, int, unsigned *))          \
    X(cores, "nvmlDeviceGetNumGpuCores", (nvml_device, unsigned *))                    \
    X(compute, "nvmlDeviceGetCudaComputeCapability", (nvml_device, int *, int *))      \
    X(mig, "nvmlDeviceGetMigMode", (nvml_device, unsigned *, unsigned *))

struct library {
#define CALL_FIELD(field, symbol, parameters) int(*field) parameters;
    NVML_CALLS(CALL_FIELD)
#undef CALL_FIELD
};

static void load_symbols(void *handle, struct library *nvml)
{
    /* Old drivers lack some of them; those stay NULL. POSIX says how an object pointer becomes a
     * function pointer. */
#define CALL_LOAD(field, symbol, parameters) *(void **)&nvml->field = dlsym(handle, symbol);
    NVML_CALLS(CALL_LOAD)
#undef CALL_LOAD
}

/* The number that a call gives, 0 when it is missing or refuses. */
static unsigned ask(int (*call)(nvml_device, unsigned *), nvml_device device)
{
    unsigned value = 0;
    return call && call(device, &value) == NVML_SUCCESS ? value : 0;
}

static void read_device(struct mb_arena *arena, const struct library *nvml, nvml_device device,
                        struct mb_nvml_gpu *gpu)
{
    char name[96] = "";
    struct nvml_pci pci = {0};
    struct nvml_memory memory = {0};
    int major = 0, minor = 0;
    unsigned mig = 0, pending = 0;
    if (nvml->name && nvml->name(device, name, sizeof name - 1) == NVML_SUCCESS)
        gpu->name = mb_clean_name(arena, name);
    if (nvml->pci && nvml->pci(device, &pci) == NVML_SUCCESS) {
        pci.bus_id[sizeof pci.bus_id - 1] = 0;
        gpu->pci = mb_clean_pci(arena, pci.bus_id);
        gpu->vendor_id = pci.pci_device_id & 0xffff;
        gpu->device_id = pci.pci_device_id >> 16;
    }
    if (nvml->memory && nvml->memory(device, &memory) == NVML_SUCCESS && memory.total) {
        gpu->has_memory = 1;
        gpu->memory_bytes = memory.total;
        gpu->memory_free_bytes = memory.free <= memory.total ? memory.free : 0;
    }
    gpu->link_generation_max = ask(nvml->max_generation, device);
    gpu->link_width_max = ask(nvml->max_width, device);
    gpu->link_generation = ask(nvml->generation, device);
    gpu->link_width = ask(nvml->width, device);
    gpu->power_limit_mw = ask(nvml->power_limit, device);
    gpu->bus_width_bits = ask(nvml->bus_width, device);
    gpu->n_cores = ask(nvml->cores, device);
    if (nvml->max_clock &&
        nvml->max_clock(device, NVML_CLOCK_MEM, &gpu->memory_clock_mhz) != NVML_SUCCESS)
        gpu->memory_clock_mhz = 0;
    if (nvml->compute && nvml->compute(device, &major, &minor) == NVML_SUCCESS && major > 0 &&
        minor >= 0) {
        gpu->compute_major = (unsigned)major;
        gpu->compute_minor = (unsigned)minor;
    }
    gpu->mig = nvml->mig && nvml->mig(device, &mig, &pending) == NVML_SUCCESS && mig == NVML_MIG_ON;
}

static int list_live(struct mb_arena *arena, struct mb_nvml *out, struct mb_err *err)
{
    /* WSL keeps it where the loader of some distributions does not look. */
    static const char *const files[] = {"libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1"};
    void *handle = NULL;
    struct library nvml = {0};
    for (size_t i = 0; i < MB_COUNT(files) && !handle; i++)
        handle = dlopen(files[i], RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return mb_fail(err, MB_ENOHW,
                       "NVML: libnvidia-ml.so.1 is not here; install the NVIDIA driver");
    load_symbols(handle, &nvml);
    int status = nvml.init && nvml.shutdown && nvml.count && nvml.handle ? nvml.init() : -1;
    if (status != NVML_SUCCESS) {
        dlclose(handle);
        if (status == NVML_VERSION_MISMATCH)
            return mb_fail(
                err, MB_ENOHW,
                "NVML: the NVIDIA driver was updated and its library and kernel module differ; "
                "restart the machine");
        if (status == NVML_DRIVER_NOT_LOADED)
            return mb_fail(
                err, MB_ENOHW,
                "NVML: the NVIDIA kernel module is not loaded; try `sudo modprobe nvidia`");
        return mb_fail(err, MB_ENOHW, "NVML: it answers error %d; look at `nvidia-smi`", status);
    }
    char driver[96] = "";
    unsigned n = 0;
    if (nvml.driver && nvml.driver(driver, sizeof driver - 1) == NVML_SUCCESS)
        out->driver = mb_clean_name(arena, driver);
    if (nvml.count(&n) != NVML_SUCCESS)
        n = 0;
    for (unsigned i = 0; i < n && i < GPUS_MAX; i++) {
        nvml_device device;
        if (nvml.handle(i, &device) != NVML_SUCCESS)
            continue;
        struct mb_nvml_gpu *gpu = mb_arena_append(arena, &out->gpus, &out->n_gpus, sizeof *gpu);
        if (gpu)
            read_device(arena, &nvml, device, gpu);
    }
    nvml.shutdown();
    dlclose(handle);
    return arena->failed ? mb_fail_memory(err) : MB_OK;
}

/* ---- a recorded machine ---- */

static void read_recorded(struct mb_arena *arena, const json_t *object, struct mb_nvml_gpu *gpu)
{
    const uint64_t bytes_max = (uint64_t)1 << 50;
    gpu->name = mb_clean_json_name(arena, object, "name");
    gpu->pci = mb_clean_pci(arena, json_string_value(json_object_get(object, "pci")));
    gpu->memory_bytes = mb_clean_json_u64(object, "memory_total_bytes", bytes_max);
    gpu->has_memory = gpu->memory_bytes > 0;
    gpu->memory_free_bytes = mb_clean_json_u64(object, "memory_free_bytes", gpu->memory_bytes);
    gpu->link_generation_max = (unsigned)mb_clean_json_u64(object, "pcie_generation_max", 16);
    gpu->link_width_max = (unsigned)mb_clean_json_u64(object, "pcie_width_max", 32);
    gpu->link_generation = (unsigned)mb_clean_json_u64(object, "pcie_generation_current", 16);
    gpu->link_width = (unsigned)mb_clean_json_u64(object, "pcie_width_current", 32);
    gpu->bus_width_bits = (unsigned)mb_clean_json_u64(object, "memory_bus_bits", 1 << 16);
    gpu->memory_clock_mhz = (unsigned)mb_clean_json_u64(object, "memory_clock_max_mhz", 1 << 20);
    gpu->power_limit_mw = (unsigned)mb_clean_json_u64(object, "power_limit_w", 100000) * 1000;
    gpu->n_cores = (unsigned)mb_clean_json_u64(object, "cores", 1 << 24);
    const char *compute = json_string_value(json_object_get(object, "compute_capability"));
    unsigned major = 0, minor = 0;
    if (compute && sscanf(compute, "%3u.%3u", &major, &minor) == 2) {
        gpu->compute_major = major;
        gpu->compute_minor = minor;
    }
}

int mb_nvml_parse(struct mb_arena *arena, const char *text, size_t n, struct mb_nvml *out,
                  struct mb_err *err)
{
    *out = (struct mb_nvml){0};
    json_t *file = mb_json_parse(text, n, "membound/nvml.json", err);
    if (!file)
        return err && err->code == MB_ENOMEM ? MB_ENOMEM : MB_EFORMAT;
    out->driver = mb_clean_json_name(arena, file, "driver");
    size_t i;
    const json_t *device;
    json_array_foreach(json_object_get(file, "devices"), i, device)
    {
        struct mb_nvml_gpu *gpu = NULL;
        if (json_is_object(device) && i < GPUS_MAX)
            gpu = mb_arena_append(arena, &out->gpus, &out->n_gpus, sizeof *gpu);
        if (gpu)
            read_recorded(arena, device, gpu);
    }
    json_decref(file);
    return arena->failed ? mb_fail_memory(err) : MB_OK;
}

int mb_nvml_list(struct mb_arena *arena, const char *root, struct mb_nvml *out, struct mb_err *err)
{
    size_t n = 0;
    *out = (struct mb_nvml){0};
    if (!root)
        return list_live(arena, out, err);
    const char *text = mb_file_read(arena, root, "/membound/nvml.json", JSON_BYTES_MAX, &n);
    if (!text)
        return mb_fail(err, MB_ENOHW,
                       "membound/nvml.json: not recorded, so this machine has no NVML");
    return mb_nvml_parse(arena, text, n, out, err);
}
