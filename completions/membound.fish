# SPDX-License-Identifier: MIT
# fish completion for membound
complete -c membound -f
complete -c membound -n __fish_use_subcommand -a machine -d 'one machine in full'
complete -c membound -n __fish_use_subcommand -a inspect -d 'what is in a model'
complete -c membound -n __fish_use_subcommand -a home -d 'this machine in one screen'
complete -c membound -n __fish_use_subcommand -l no-measure -d 'do not measure'
complete -c membound -n __fish_use_subcommand -l version -d 'version'
complete -c membound -l json -d JSON
complete -c membound -l no-gpu -d 'do not open GPU drivers'
complete -c membound -l software-gpu -d 'keep software GPUs, for tests'
complete -c membound -l root -r -a '(__fish_complete_directories)' -d 'a recorded machine'
complete -c membound -l help -d help
complete -c membound -n '__fish_seen_subcommand_from machine' -a '(__fish_complete_suffix .json)'
complete -c membound -n '__fish_seen_subcommand_from machine' -l measure -d 'measure this machine'
complete -c membound -n '__fish_seen_subcommand_from machine' -l quick -d 'measure in under 5 s'
complete -c membound -n '__fish_seen_subcommand_from machine' -l threads -x -d 'at most N CPU threads'
complete -c membound -n '__fish_seen_subcommand_from machine' -l list -d 'list the catalog'
complete -c membound -n '__fish_seen_subcommand_from machine' -l save -r -F -d 'write JSON'
complete -c membound -n '__fish_seen_subcommand_from inspect' -a '(__fish_complete_suffix .gguf; membound inspect --catalog 2> /dev/null)'
complete -c membound -n '__fish_seen_subcommand_from inspect' -l ctx -x -d 'tokens in the cache'
complete -c membound -n '__fish_seen_subcommand_from inspect' -l batch -x -d 'tokens of the pass'
complete -c membound -n '__fish_seen_subcommand_from inspect' -l kv -x -a 'F16 F32 BF16 Q8_0 Q5_1 Q5_0 Q4_1 Q4_0 IQ4_NL' -d 'cache type'
complete -c membound -n '__fish_seen_subcommand_from inspect' -l tensors -d 'list tensors'
complete -c membound -n '__fish_seen_subcommand_from inspect' -l list -d 'models on this machine'
complete -c membound -n '__fish_seen_subcommand_from inspect' -l catalog -d 'models without a file'
