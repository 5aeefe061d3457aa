# Complete commands and options of a program for bash, from the help that it prints itself.
# BusyBox's shell has no such completion.

# _help_words SECTION: of a help text of urfave/cli, print the words of COMMANDS or OPTIONS.
_help_words() {
	awk -v wanted="$1" '
		/^[A-Z][A-Z ]*:/ { here = index($0, wanted ":"); next }
		here && /^ +[-a-z]/ {
			sub(/^ +/, "")
			sub(/  .*/, "")
			gsub(/,/, " ")
			count = split($0, words, " ")
			for (i = 1; i <= count; i++)
				if (wanted == "COMMANDS" || words[i] ~ /^-/) print words[i]
		}'
}

# _complete_by_help: bash calls it with the program, for the word at the cursor.
_complete_by_help() {
	local word=${COMP_WORDS[COMP_CWORD]} given=() help index section=COMMANDS
	help=$("$1" --help 2>/dev/null) || return
	for ((index = 1; index < COMP_CWORD; index++)); do
		# What is no command is an option, its value or an argument.
		_help_words COMMANDS <<< "$help" | grep -qxF -e "${COMP_WORDS[index]}" || continue
		given+=("${COMP_WORDS[index]}")
		help=$("$1" "${given[@]}" --help 2>/dev/null) || return
	done
	[[ $word != -* ]] || section=OPTIONS
	mapfile -t COMPREPLY < <(compgen -W "$(_help_words "$section" <<< "$help")" -- "$word")
}
