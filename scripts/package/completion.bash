# SPDX-License-Identifier: GPL-2.0-or-later
# Completion for qemu-vas-i386 and qemu-vas-x86_64; the lists are the program's own.

# _qemu_vas_names OPTION: the first word of each line that "OPTION help" prints
_qemu_vas_names() {
    "$program" "$1" help 2>/dev/null | awk 'NF > 1 && /^ *[a-z0-9]/ { print $1 }'
}

_qemu_vas() {
    local program=$1 current=$2 previous=$3
    COMPREPLY=()
    case $previous in
        -accel)
            COMPREPLY=($(compgen -W "switch switch,initial=kvm switch,initial=tcg kvm tcg" -- "$current"))
            ;;
        -cpu | -M | -machine)
            COMPREPLY=($(compgen -W "$(_qemu_vas_names "$previous")" -- "$current"))
            ;;
        -device)
            COMPREPLY=($(compgen -W "$("$program" -device help 2>/dev/null |
                                       sed -n 's/^name "\([^"]*\)".*/\1/p')" -- "$current"))
            ;;
        *)
            if [[ $current == -* ]]; then
                COMPREPLY=($(compgen -W "$("$program" -help 2>/dev/null |
                                           grep -o '^-[a-zA-Z0-9-]*')" -- "$current"))
            else
                compopt -o filenames
                COMPREPLY=($(compgen -f -- "$current"))
            fi
            ;;
    esac
}

complete -F _qemu_vas qemu-vas-i386 qemu-vas-x86_64
