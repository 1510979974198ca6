# The front door. Meson does the work behind it: `make run` and `make check` are all that a person needs.
BUILD ?= build
PREFIX ?= /usr/local
MESON_OPTIONS ?=
SANITIZE_BUILD := $(BUILD)-sanitize
FUZZ_SECONDS ?= 30

.PHONY: help run build check check-sanitize check-peers check-faults check-aarch64 bench bench-peers fuzz lint format install uninstall bootstrap clean

help:
	@echo "make run             build, then show this machine"
	@echo "make check           build, then run every test"
	@echo "make check-sanitize  the tests again under ASan and UBSan"
	@echo "make check-peers     compare with other tools from PyPI (needs the network)"
	@echo "make check-faults    plant every fault of tests/data/faults.json, not one a suite"
	@echo "make check-aarch64   the kernels, cross-compiled, under qemu"
	@echo "make bench           measure, side by side with independent tools"
	@echo "make bench-peers     side by side with llama.cpp (needs the network): MODELS= QUANTS= PHASES= BLOCKS= ARGS="
	@echo "make fuzz            fuzz every parser for FUZZ_SECONDS=$(FUZZ_SECONDS) each"
	@echo "make lint            style rules; clang-tidy on what differs from BASE=main"
	@echo "make install         install under PREFIX=$(PREFIX) (DESTDIR is honoured)"
	@echo "make format          clang-format on the C files that differ from HEAD"
	@echo "make clean           remove what was built"

bootstrap:
	@sh tools/bootstrap.sh

$(BUILD)/build.ninja: | bootstrap
	meson setup $(BUILD) $(MESON_OPTIONS)

build: bootstrap $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

run: build
	@$(BUILD)/src/cli/membound

check: build
	@meson test -C $(BUILD) --no-rebuild --print-errorlogs --no-suite peers

$(SANITIZE_BUILD)/build.ninja: | bootstrap
	meson setup $(SANITIZE_BUILD) $(MESON_OPTIONS) -Db_sanitize=address,undefined -Db_lundef=false

check-sanitize: $(SANITIZE_BUILD)/build.ninja
	@ninja -C $(SANITIZE_BUILD) --quiet
	@UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 ASAN_OPTIONS=detect_leaks=1 \
	  meson test -C $(SANITIZE_BUILD) --no-rebuild --print-errorlogs --no-suite peers --no-suite faults --timeout-multiplier 4

check-peers: build
	@meson test -C $(BUILD) --no-rebuild --print-errorlogs --suite peers

check-faults: bootstrap
	@python3 tests/planted_faults.py . --all

check-aarch64:
	@sh tools/cross/aarch64.sh $(BUILD)

bench: build
	@sh bench/run.sh $(BUILD)

# For example: make bench-peers MODELS="qwen3-1.7b llama-8b" QUANTS="Q4_K_M Q8_0" PHASES=decode@0 BLOCKS=30 ARGS="--json FILE"
bench-peers: build
	@python3 bench/peers/compare.py --build $(BUILD) $(if $(MODELS),--models "$(MODELS)") $(if $(QUANTS),--quants "$(QUANTS)") \
	  $(if $(PHASES),--phases "$(PHASES)") $(if $(BLOCKS),--blocks $(BLOCKS)) $(ARGS)

fuzz: bootstrap
	@sh tools/fuzz.sh $(FUZZ_SECONDS)

BASE ?= main
lint: build
	@sh tools/style.sh
	@sh tools/tidy.sh $(BUILD) $(BASE)

format:
	@git diff --name-only --diff-filter=d HEAD -- '*.c' '*.h' | xargs -r clang-format -i

install: build
	meson configure $(BUILD) --prefix $(PREFIX) > /dev/null
	meson install -C $(BUILD) --no-rebuild

uninstall:
	ninja -C $(BUILD) uninstall

clean:
	rm -rf $(BUILD) $(SANITIZE_BUILD) $(BUILD)-fuzz
