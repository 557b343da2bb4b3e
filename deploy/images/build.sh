#!/bin/sh
# Build an image from a wheelhouse; no network is needed but for the base image.
#
#   python3 deploy/wheelhouse/build.py coordinator OUT
#   sh deploy/images/build.sh OUT [TAG]
#
# The wheelhouse says whether it is a site's or the coordinator's. Environment: BASE (an image with
# Python of the wheelhouse's version; make-base.sh makes one), ENGINE (docker, podman or buildah;
# default: the first one found).
set -eu

if [ "$#" -lt 1 ] || [ "$#" -gt 2 ]; then
    echo "usage: [BASE=IMAGE] [ENGINE=docker|podman|buildah] sh build.sh WHEELHOUSE [TAG]" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
house=$(cd "$1" && pwd)

(cd "$house" && sha256sum --check --strict --quiet SHA256SUMS)
party=$(sed -n 's/^ "party": "\(.*\)",\{0,1\}$/\1/p' "$house/manifest.json")
version=$(sed -n 's/^ "smrfed": "\(.*\)",\{0,1\}$/\1/p' "$house/manifest.json")
tag=${2:-localhost/smrfed-$party:$version}

engine=${ENGINE:-$(command -v podman || command -v buildah || command -v docker || true)}
if [ -z "$engine" ]; then
    echo "neither podman, buildah nor docker is here" >&2
    exit 1
fi
set -- build --file "$here/Containerfile.$party" --build-arg "VERSION=$version" --tag "$tag"
if [ -n "${BASE:-}" ]; then
    set -- "$@" --build-arg "BASE=$BASE"
fi
case $(basename "$engine") in
    # Health checks are not part of the OCI format.
    podman | buildah) set -- "$@" --format docker ;;
    docker) export DOCKER_BUILDKIT=1 ;;
esac
"$engine" "$@" "$house"
echo "$tag"
