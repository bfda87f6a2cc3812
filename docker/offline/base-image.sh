#!/bin/sh
# Makes a base image for the Dockerfile where no registry of images can be reached: Debian with Python, from a package
# mirror by debootstrap. Needs root, debootstrap and a Docker daemon, and about 600 MB of room.
# usage: base-image.sh [--suite SUITE] [--mirror URL] [--ca FILE]... [TAG]
set -eu

suite=bookworm mirror= tag=keystead-base:bookworm
authorities=$(mktemp -d)
root=$(mktemp -d)
trap 'rm -rf "$root" "$authorities"' EXIT

while [ $# -gt 0 ]; do
  case $1 in
    --suite) suite=$2 tag=keystead-base:$2; shift 2 ;;
    --mirror) mirror=$2; shift 2 ;;
    # A private authority, which pip and cargo in a build then trust as well: PEM, one certificate in a file.
    --ca) cp "$2" "$authorities/$(basename "$2" | sed 's/\.[a-z]*$//').crt"; shift 2 ;;
    -*) echo "usage: $0 [--suite SUITE] [--mirror URL] [--ca FILE]... [TAG]" >&2; exit 2 ;;
    *) tag=$1; shift ;;
  esac
done

debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,python3-pip "$suite" "$root" \
  ${mirror:+"$mirror"}
cp "$authorities"/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
chroot "$root" update-ca-certificates
# The Dockerfile calls python, as the images of the Python project do.
ln -sf python3 "$root/usr/bin/python"

tar -C "$root" --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' --exclude='./usr/share/doc/*' \
  --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' -c . |
  docker import -c 'ENV LANG=C.UTF-8 PIP_CERT=/etc/ssl/certs/ca-certificates.crt' -c 'CMD ["python"]' - "$tag"
echo "made $tag: docker build --build-arg BASE_IMAGE=$tag -f docker/Dockerfile ."
