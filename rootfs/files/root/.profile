# Root's login shell: only with bootcode `superuser`, or by su and sudo -i.
PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
EDITOR=vi
export PATH EDITOR
