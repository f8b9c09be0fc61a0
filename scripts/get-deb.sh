#!/bin/sh
# Unpacks packages of a Debian release into a directory, through apt and with its signatures checked, and changes
# nothing in the system: neither what is installed nor what apt knows.
#
#   scripts/get-deb.sh SUITE DIRECTORY PACKAGE…        for example: trixie target/servers/etcd-3.5 etcd-server
#
# The mirror is the one that the system's apt uses, or $DEBIAN_MIRROR.
set -eu
[ $# -ge 3 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
suite=$1 directory=$2
shift 2

keyring=${DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | sort -u | head -n 1)}
[ -n "$mirror" ] || { echo "get-deb.sh: apt knows no Debian mirror; run apt-get update, or set DEBIAN_MIRROR" >&2; exit 1; }

# Unpacked beside its place and moved there as a whole: a directory that is there is complete.
mkdir -p "$(dirname "$directory")"
work=$(mktemp -d "$(cd "$(dirname "$directory")" && pwd)/.get-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
mkdir -p "$work/sources" "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$work/root"
printf 'deb [arch=%s signed-by=%s] %s %s main\n' "$(dpkg --print-architecture)" "$keyring" "$mirror" "$suite" \
  >"$work/sources/only.list"

own_apt() {
  apt-get -qq \
    -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/sources" \
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" \
    -o Acquire::Languages=none \
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
    -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false \
    -o Acquire::AllowInsecureRepositories=false -o APT::Get::AllowUnauthenticated=false \
    -o APT::Sandbox::User=root "$@"
}

own_apt update
(cd "$work/debs" && own_apt download "$@")
for package in "$work"/debs/*.deb; do
  dpkg-deb -x "$package" "$work/root"
done
chmod 755 "$work/root"
rm -rf "$directory"
mv -T "$work/root" "$directory"
