# SPDX-License-Identifier: MIT
# bash completion for membound
_membound() {
    local cur prev verb=home word
    cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
        machine | home) verb=$word ;;
        esac
    done
    case $prev in
    --root) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
    --save) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    --threads) return ;;
    esac
    case $verb in
    home) mapfile -t COMPREPLY < <(compgen -W "machine home --json --no-measure --no-gpu --software-gpu --root --help --version" -- "$cur") ;;
    machine)
        if [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "--measure --quick --threads --list --save --json --no-gpu --software-gpu --root --help" -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -f -X '!*.json' -- "$cur")
        fi
        ;;
    esac
}
complete -o filenames -F _membound membound
