/** The three shells' sides of completion: each asks `virga __complete -- WORDS…` and offers what comes back. */
export type ShellName = 'bash' | 'zsh' | 'fish';

const bash = `# Completion of virga for bash.
_virga() {
  local word files=0
  COMPREPLY=()
  while IFS= read -r word; do
    if [[ $word == __files__ ]]; then files=1; else COMPREPLY+=("$word"); fi
  done < <("\${COMP_WORDS[0]}" __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if ((files)); then
    compopt -o filenames 2>/dev/null
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")
  fi
}
complete -F _virga virga
`;

const zsh = `#compdef virga
# Completion of virga for zsh.
_virga() {
  local -a found
  local word files=0
  while IFS= read -r word; do
    if [[ $word == __files__ ]]; then files=1; else found+=("$word"); fi
  done < <("\${words[1]}" __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  compadd -a found
  if ((files)); then _files; fi
}
if [ "$funcstack[1]" = _virga ]; then _virga "$@"; else compdef _virga virga; fi
`;

const fish = `# Completion of virga for fish.
function __virga_complete
    set -l words (commandline -opc) (commandline -ct)
    for word in (virga __complete -- $words[2..-1] 2>/dev/null)
        if test "$word" = __files__
            __fish_complete_path (commandline -ct)
        else
            echo $word
        end
    end
end
complete -c virga -f -a '(__virga_complete)'
`;

const scripts: Readonly<Record<ShellName, string>> = { bash, zsh, fish };
export const script = (shell: ShellName): string => scripts[shell];
