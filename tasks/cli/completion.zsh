# SPDX-License-Identifier: MIT
# Completion of tcbuild's ./doit in zsh:  source <(./doit completion zsh)
# The accepted words stand in artifacts/.completion, which is written again when a file that
# declares tasks has changed.  So a key press does not run doit.

_tcbuild_list() { # TOP: bring the list up to date
    local list=$1/artifacts/.completion file
    for file in $1/{dodo.py,tasks/cli/variables.py,tasks/cli/commands.py,artifacts/profile.json} \
        $1/{kconfig,profiles,extensions} $1/profiles/*.toml(N) $1/extensions/*/recipe.toml(N); do
        [[ ! -e $list || $file -nt $list ]] || continue
        (cd -- $1 && artifacts/.venv/bin/doit completion words >artifacts/.completion.$$ &&
            mv artifacts/.completion.$$ artifacts/.completion || rm -f artifacts/.completion.$$) \
            >/dev/null 2>&1 </dev/null
        return
    done
}

_tcbuild() {
    local top=${~words[1]}
    [[ $top == */* ]] && top=${top:h} || top=.
    [[ -f $top/dodo.py && -f $top/tasks/cli/completion.py ]] || return 1
    _tcbuild_list $top
    [[ -f $top/artifacts/.completion ]] || return 1

    local cur=$PREFIX kind name value rest files=
    local -a tasks variables options values several fields
    while IFS= read -r rest; do
        fields=("${(@s:	:)rest}")
        name=$fields[2] value=$fields[3]
        case $fields[1] in
        task) tasks+=("${name//:/\\:}:$value") ;;
        variable) variables+=("${name}:$value") ;;
        option) (( $words[(Ie)$name] )) && options+=("$value:$fields[4]") ;;
        value) [[ $cur == $name=* ]] && values+=($value) ;;
        values) [[ $cur == $name=* ]] && several+=($value) ;;
        files) (( $words[(Ie)$name] )) && files=1 ;;
        esac
    done <$top/artifacts/.completion

    if [[ $cur == out=* ]]; then
        compset -P '*=' && _files -/
    elif (( $#several )); then
        compset -P '*[=,]' && compadd -S '' -- $several
    elif [[ $cur == *=* ]]; then
        compset -P '*=' && compadd -- $values
    elif [[ $cur == -* ]]; then
        _describe -t options option options
    else
        _describe -t tasks task tasks
        _describe -t variables variable variables -S '='
        [[ -n $files ]] && _files
    fi
}

(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -u }
compdef _tcbuild doit
