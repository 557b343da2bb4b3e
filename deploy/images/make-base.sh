#!/bin/sh
# Make a base image from Debian packages alone, for machines that reach no image registry.
#
#   sudo sh make-base.sh [IMAGE]          # default localhost/smrfed-base:bookworm
#
# Needs debootstrap, and one of buildah, podman and docker. Environment: SUITE (bookworm), MIRROR
# (debootstrap's own choice), ENGINE (the first one found).
set -eu

image=${1:-localhost/smrfed-base:bookworm}
suite=${SUITE:-bookworm}
engine=${ENGINE:-$(command -v buildah || command -v podman || command -v docker)}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$folder/root

# What Python needs, and nothing that only a person would use.
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    "$suite" "$root" ${MIRROR:+"$MIRROR"}

# Without package lists, manuals and translations; the list of installed packages stays, because
# scanners for known weaknesses read it.
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*
rm -rf "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/info/* \
    "$root"/usr/share/locale/* "$root"/usr/share/lintian
# Nobody becomes root in here: no file keeps its set-user or set-group bit.
find "$root" -xdev -type f -perm /6000 -exec chmod a-s {} +

tar --create --file "$folder/root.tar" --directory "$root" --numeric-owner .
case $(basename "$engine") in
    buildah)
        container=$("$engine" from scratch)
        "$engine" add "$container" "$folder/root.tar" /
        "$engine" config --env PATH=/usr/local/bin:/usr/bin:/bin --env LANG=C.UTF-8 "$container"
        "$engine" commit --rm "$container" "$image"
        ;;
    *)
        "$engine" import \
            --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin' --change 'ENV LANG=C.UTF-8' \
            "$folder/root.tar" "$image"
        ;;
esac
