# SPDX-License-Identifier: MIT
# bash completion for membound
_membound() {
    local cur prev verb=home word
    cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
        advise | bench | machine | inspect | plan | run | shard | validate | home) verb=$word ;;
        esac
    done
    case $prev in
    --root) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
    --save | --svg) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    --threads | --ctx | --prefill | --decode | --depth | --batch | --bandwidth | --speed | --size | --efficiency | --limit | --apps | --nodes) return ;;
    --model) mapfile -t COMPREPLY < <(compgen -f -X '!*.gguf' -- "$cur"; membound inspect --catalog 2> /dev/null | sed '/^$/,$d' | grep -- "^$cur"); return ;;
    --on) mapfile -t COMPREPLY < <(compgen -W here -- "$cur"; compgen -f -X '!*.json' -- "$cur"); return ;;
    --engine) mapfile -t COMPREPLY < <(compgen -W "llama.cpp ik_llama.cpp ollama mlx vllm membound" -- "$cur"); return ;;
    --emit) mapfile -t COMPREPLY < <(compgen -W "llama.cpp ik_llama.cpp ollama lmstudio vllm mlx exo" -- "$cur"); return ;;
    --link) mapfile -t COMPREPLY < <(compgen -W "1GbE 10GbE 25GbE 100GbE 200GbE usb4 thunderbolt5 thunderbolt5-rdma" -- "$cur"); return ;;
    --cross) mapfile -t COMPREPLY < <(compgen -W "none chip model" -- "$cur"); return ;;
    --class) mapfile -t COMPREPLY < <(compgen -W "cpu gpu unified dedicated" -- "$cur"); return ;;
    --sort) mapfile -t COMPREPLY < <(compgen -W "memory speed price energy" -- "$cur"); return ;;
    --min-speed | --budget | --currency | --quant | --limit) return ;;
    --kv) mapfile -t COMPREPLY < <(compgen -W "F16 F32 BF16 Q8_0 Q5_1 Q5_0 Q4_1 Q4_0 IQ4_NL" -- "$cur"); return ;;
    esac
    case $verb in
    home) mapfile -t COMPREPLY < <(compgen -W "advise bench machine inspect plan run shard validate home --json --no-measure --no-gpu --software-gpu --root --help --version" -- "$cur") ;;
    bench)
        if [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "--synthetic --prefill --decode --depth --threads --ops --json --help" -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -f -X '!*.gguf' -- "$cur"; membound inspect --catalog 2> /dev/null | sed '/^$/,$d' | grep -- "^$cur")
        fi
        ;;
    machine)
        if [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "--measure --quick --threads --list --save --json --no-gpu --software-gpu --root --help" -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -f -X '!*.json' -- "$cur")
        fi
        ;;
    advise) mapfile -t COMPREPLY < <(compgen -W "--model --on --ctx --min-speed --budget --currency --class --sort --quant --engine --apps --kv --limit --svg --json --help" -- "$cur") ;;
    run)
        if [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "-p --prompt -f --file -n --tokens --system --raw --ctx --kv --threads --temp --top-k --top-p --min-p --repeat-penalty --presence-penalty --frequency-penalty --seed --template --template-vars --ignore-end --copy --mmap --json --help" -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -f -X '!*.gguf' -- "$cur")
        fi
        ;;
    shard) mapfile -t COMPREPLY < <(compgen -W "--bandwidth --speed --size --model --on --efficiency --ctx --kv --json --help" -- "$cur") ;;
    plan)
        if [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "--on --nodes --link --ctx --apps --kv --batch --engine --emit --explain --json --no-gpu --software-gpu --root --help" -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -f -X '!*.gguf' -- "$cur"; membound inspect --catalog 2> /dev/null | sed '/^$/,$d' | grep -- "^$cur")
        fi
        ;;
    validate)
        if [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "--cross --rows --limit --svg --fit --json --help" -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -f -X '!*.csv' -- "$cur")
        fi
        ;;
    inspect)
        if [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "--ctx --batch --kv --tensors --list --catalog --json --help" -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -f -X '!*.gguf' -- "$cur"; membound inspect --catalog 2> /dev/null | sed '/^$/,$d' | grep -- "^$cur")
        fi
        ;;
    esac
}
complete -o filenames -F _membound membound
