# Sourced by ./run and ./test: sees to it that what they need is on the machine.
# Debian packages are installed when the caller is root; a Rust toolchain only when Debian packages its installer.

rust_needed=1.95

# Installs the Debian packages that provide the named commands: `want command package...`.
want() {
  local command=$1
  shift
  command -v "$command" >/dev/null && return 0
  if [ "$(id -u)" != 0 ]; then
    echo "The command $command is missing. As root: apt-get install $*" >&2
    return 1
  fi
  echo "Installing Debian packages for $command: $*"
  if [ -z "${apt_updated:-}" ]; then
    apt-get update -qq || true
    apt_updated=1
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" </dev/null >/dev/null
}

rust_is_new_enough() {
  command -v cargo >/dev/null && command -v rustc >/dev/null || return 1
  local have
  have=$(rustc --version | cut -d' ' -f2)
  [ "$(printf '%s\n%s\n' "$rust_needed" "$have" | sort -V | head -n1)" = "$rust_needed" ]
}

want_rust() {
  [ -d "$HOME/.cargo/bin" ] && PATH="$PATH:$HOME/.cargo/bin"
  rust_is_new_enough && return 0
  # Debian's own rustc is older than what is needed; from Debian 13 on there is rustup to get a newer one.
  if [ "$(id -u)" = 0 ] && apt-cache show rustup >/dev/null 2>&1; then
    want rustup rustup || return 1
    echo "Installing the stable Rust toolchain with rustup"
    rustup toolchain install stable --profile minimal --component clippy --component rustfmt &&
      rustup default stable
    rust_is_new_enough && return 0
  fi
  echo "Rust $rust_needed or newer is needed; this machine has: $(rustc --version 2>/dev/null || echo none)." >&2
  echo "Debian 12 and 13 package older ones only. Install one with rustup (https://rustup.rs):" >&2
  echo "  rustup toolchain install stable --component clippy --component rustfmt" >&2
  return 1
}
