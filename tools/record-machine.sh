#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Copy what membound reads about a machine into a directory, so that the machine can be replayed
# somewhere else.
#
#     tools/record-machine.sh DIR [ROOT]
#
# DIR must not exist yet. ROOT (default: the live system) is another recorded machine, which is how
# this script is tested. What can't be read is left out: the SMBIOS table needs root, the rest does
# not. Serial numbers, asset tags and UUIDs are overwritten, never copied. The layout and what to
# add by hand: tests/trees/README.md.

set -u
LC_ALL=C
export LC_ALL

if [ $# -lt 1 ] || [ $# -gt 2 ] || [ "${1#-}" != "$1" ]; then
    echo "usage: $0 DIR [ROOT]" >&2
    exit 2
fi
out=$1
root=${2:-}
if [ -e "$out" ]; then
    echo "$0: $out exists; name a new directory" >&2
    exit 2
fi
mkdir -p "$out" || exit 4
missing=
copied=0

# Copy ROOT/$1 through the filter in the other arguments (default: cat). sysfs files can fail
# half-way; those are dropped.
take() {
    path=$1
    shift
    [ -f "$root/$path" ] || return 1
    mkdir -p "$out/${path%/*}" || exit 4
    if [ -r "$root/$path" ] && cat "$root/$path" 2>/dev/null >"$out/$path.raw"; then
        "${@:-cat}" <"$out/$path.raw" >"$out/$path"
        rm -f "$out/$path.raw"
        copied=$((copied + 1))
        return 0
    fi
    rm -f "$out/$path.raw"
    missing="$missing $path"
    return 1
}

drop_serial_lines() { grep -v '^Serial'; }
zero_uuid() { sed 's/GPU-[0-9A-Fa-f?-]*/GPU-00000000-0000-0000-0000-000000000000/'; }
zero_digits() { tr '[:xdigit:]' '0'; }

# The limits of a cgroup and of all groups around it: any of them binds. $1: mount, $2: path in it,
# $3...: file names.
take_cgroup() {
    mount=$1
    group=${2%/}
    shift 2
    case $group in '' | /*) ;; *) return ;; esac
    case $group in */..*) return ;; esac
    [ ${#group} -lt 4096 ] || return
    while :; do
        for name in "$@"; do take "$mount$group/$name"; done
        [ -n "$group" ] || break
        group=${group%/*}
    done
}

# The SMBIOS table at its length, with everything that identifies a single machine blanked: serial
# numbers, asset tags and the UUID in the structures that membound reads (0, 1, 2, 4, 16, 17, 127),
# and the whole content of all others. What can't be parsed is zeroed.
blank_dmi() {
    od -An -v -tu1 | awk '
        { for (f = 1; f <= NF; f++) b[n++] = $f }
        function blank(number, from, to,    at, k) {
            for (at = from; at < to && number > 0; at++) {
                if (b[at] == 0) { k++; continue }
                if (k + 1 == number) b[at] = 88
            }
        }
        END {
            offsets[1] = "7"; offsets[2] = "7 8"; offsets[4] = "32 33"; offsets[17] = "24 25"
            known[0] = known[1] = known[2] = known[4] = known[16] = known[17] = known[127] = 1
            for (i = 0; i + 4 <= n; i = j + 2) {
                type = b[i]; len = b[i + 1]
                if (len < 4 || i + len > n) break
                for (j = i + len; j + 1 < n && (b[j] || b[j + 1]); j++) ;
                if (j + 1 >= n) break
                if (!(type in known)) {
                    for (k = i + 4; k < i + len; k++) b[k] = 0
                    for (k = i + len; k < j; k++) if (b[k]) b[k] = 88
                } else {
                    m = split(offsets[type], o, " ")
                    for (k = 1; k <= m; k++) if (o[k] + 0 < len) blank(b[i + o[k]], i + len, j)
                    if (type == 1) for (k = 8; k < 24 && k < len; k++) b[i + k] = 0
                }
                if (type == 127) { i = j + 2; break }
            }
            for (; i < n; i++) b[i] = 0
            for (i = 0; i < n; i++) {
                printf "\\0%03o", b[i]
                if (i % 64 == 63 || i == n - 1) print ""
            }
        }' | while read -r line; do printf '%b' "$line"; done
}

take proc/cpuinfo drop_serial_lines
take proc/meminfo
take proc/version
take proc/sys/kernel/osrelease

if take proc/self/cgroup; then
    while IFS=: read -r _ controllers group; do
        case ,$controllers, in
        ,,) take_cgroup sys/fs/cgroup "$group" memory.max memory.current ;;
        *,memory,*)
            take_cgroup sys/fs/cgroup/memory "$group" memory.limit_in_bytes memory.usage_in_bytes
            ;;
        esac
    done <"$out/proc/self/cgroup"
fi

for name in sys_vendor product_name board_name chassis_type; do take sys/class/dmi/id/$name; done
take sys/firmware/dmi/tables/smbios_entry_point
take sys/firmware/dmi/tables/DMI blank_dmi

take sys/devices/system/node/online
for node in "$root"/sys/devices/system/node/node[0-9]*; do
    take "sys/devices/system/node/${node##*/}/meminfo"
done

# Only card0, card1, ...: card0-DP-1 is a connector, renderD128 the same device again.
for card in "$root"/sys/class/drm/card[0-9]*; do
    card=${card##*/}
    case ${card#card} in *[!0-9]*) continue ;; esac
    for name in vendor device class uevent subsystem_vendor subsystem_device boot_vga product_name \
        current_link_speed current_link_width max_link_speed max_link_width pp_dpm_mclk \
        mem_info_vram_total mem_info_vram_used mem_info_vis_vram_total \
        mem_info_gtt_total mem_info_gtt_used; do
        take "sys/class/drm/$card/device/$name"
    done
    take "sys/class/drm/$card/device/unique_id" zero_digits
done

take proc/driver/nvidia/version
for gpu in "$root"/proc/driver/nvidia/gpus/*; do
    take "proc/driver/nvidia/gpus/${gpu##*/}/information" zero_uuid
done
take sys/module/ttm/parameters/pages_limit
take sys/module/amdgpu/parameters/gttsize

echo "$copied files are in $out"
for path in $missing; do echo "not readable: /$path"; done
case $missing in
*sys/firmware/dmi*) echo "as root the memory modules would be recorded, too" ;;
esac
echo "Read them before you send them: proc/self/cgroup and proc/version can hold your own names."
