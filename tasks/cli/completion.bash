# SPDX-License-Identifier: MIT
# Completion of tcbuild's ./doit in bash:  source <(./doit completion bash)
# The accepted words stand in artifacts/.completion, which is written again when a file that
# declares tasks has changed.  So a key press does not run doit.

_tcbuild_list() { # TOP: bring the list up to date
    local list=$1/artifacts/.completion file
    for file in "$1"/{dodo.py,tasks/cli/variables.py,tasks/cli/commands.py,artifacts/profile.json} \
        "$1"/{kconfig,profiles,extensions} "$1"/profiles/*.toml "$1"/extensions/*/recipe.toml; do
        [[ ! -e $list || $file -nt $list ]] || continue
        (cd -- "$1" && artifacts/.venv/bin/doit completion words >"artifacts/.completion.$$" &&
            mv "artifacts/.completion.$$" artifacts/.completion || rm -f "artifacts/.completion.$$") \
            >/dev/null 2>&1 </dev/null
        return
    done
}

_tcbuild() {
    local top=${COMP_WORDS[0]/#\~\//$HOME/}
    [[ $top == */* ]] && top=${top%/*} || top=.
    [[ -f $top/dodo.py && -f $top/tasks/cli/completion.py ]] || return
    _tcbuild_list "$top"
    [[ -f $top/artifacts/.completion ]] || return

    # Not of COMP_WORDS: these are split at colons and equals signs.
    local line=${COMP_LINE:0:COMP_POINT} kind name value rest
    local cur=${line##*[[:space:]]} cut='' found=() files=
    local before=" ${line%"$cur"} "
    while IFS=$'\t' read -r kind name value rest; do
        case $kind in
        task) [[ $cur == -* || $cur == *=* ]] || found+=("$name") ;;
        variable) [[ $cur == -* || $cur == *=* ]] || found+=("$name=") ;;
        option) [[ $cur == -* && $cur != *=* && $before == *" $name "* ]] && found+=("$value") ;;
        value) [[ $cur == "$name="* ]] && found+=("$name=$value") ;;
        values) # several, with commas between
            if [[ $cur == "$name="*,* ]]; then
                found+=("${cur%,*},$value")
            elif [[ $cur == "$name="* ]]; then
                found+=("$name=$value")
            fi
            ;;
        files) [[ $before == *" $name "* ]] && files=1 ;;
        esac
    done <"$top/artifacts/.completion"

    COMPREPLY=()
    for name in "${found[@]}"; do
        [[ $name == "$cur"* ]] && COMPREPLY+=("$name")
    done
    if [[ $cur == out=* ]]; then
        while IFS= read -r name; do COMPREPLY+=("out=$name/"); done < <(compgen -d -- "${cur#out=}")
    elif [[ $files && $cur != -* ]]; then
        while IFS= read -r name; do COMPREPLY+=("$name"); done < <(compgen -f -- "$cur")
    fi
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=/] ]] && compopt -o nospace 2>/dev/null
    # Readline replaces only what follows the last of these.
    [[ $COMP_WORDBREAKS == *=* && $cur == *=* ]] && cut=${cur%"${cur##*=}"}
    [[ $COMP_WORDBREAKS == *:* && $cur == *:* ]] && cut=${cur%"${cur##*:}"}
    COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}

complete -F _tcbuild doit
