# For other scripts: what a step prints stands behind its name.
exec 2>&1
step() {
  local name=$1
  shift
  "$@" 2>&1 | sed -e "s/^/$name: /" -e 's#/dev/pts/[0-9]*#PTS#g' -e 's/-[a-z]*-sock/-DAEMON-sock/' -e 's/[0-9a-f]\{8\}-[0-9a-f-]\{27\}/UUID/' -e 's/ *| .*//'
}
