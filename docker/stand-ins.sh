#!/usr/bin/env bash
# Builds stand-ins of the images zookeeper:3.9 and redis from the files of this machine's Debian packages, for engines
# without a registry, and prints the variables that name them for docker/devices.yml. They are for trying and for tests:
#
#   apt-get install zookeeper default-jre-headless redis-server netcat-openbsd
#   eval "$(docker/stand-ins.sh)"
set -euo pipefail

PREFIX="${1:-acopio-stand-in}"

# A package and all that it depends on, as far as it is installed.
closure() {
    apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "$@" | grep '^[a-z0-9]' | sort -u
}

# The files of these packages, under the names that they have once /bin, /lib and /sbin are links.
files() {
    local package
    for package in "$@"; do
        dpkg -L "$package" 2>/dev/null || true
    done | sed -E 's#^/(bin|sbin|lib|lib32|lib64|libx32)(/|$)#/usr/\1\2#' |
        grep -vE '^/(\.|)$|^/usr/share/(doc|man|locale|info|lintian)/' | sort -u |
        while read -r file; do
            if [ -e "$file" ] || [ -L "$file" ]; then echo ".$file"; fi
        done
}

# image NAME 'Dockerfile instruction'… -- PACKAGE…
image() {
    local name="$1" changes=()
    shift
    while [ "$1" != -- ]; do
        changes+=(--change "$1")
        shift
    done
    shift
    local packages list
    mapfile -t packages < <(closure "$@")
    list="$(mktemp)"
    {
        files "${packages[@]}"
        # The links of the merged /usr, those that update-alternatives made, and the loader's cache.
        for file in bin sbin lib lib64 etc/ld.so.cache etc/passwd etc/group etc/nsswitch.conf; do
            if [ -e "/$file" ]; then echo "./$file"; fi
        done
        find /etc/alternatives -maxdepth 1 -type l '(' -name java -o -name nc ')' | sed 's#^#.#'
        find /usr/bin -maxdepth 1 -type l '(' -name java -o -name nc ')' | sed 's#^#.#'
    } | sort -u >"$list"
    tar -C / --no-recursion --ignore-failed-read -c -T "$list" 2>/dev/null |
        docker import "${changes[@]}" - "$name:latest" >/dev/null
    rm -f "$list"
}

for package in zookeeper default-jre-headless redis-server netcat-openbsd; do
    dpkg -s "$package" >/dev/null 2>&1 || {
        echo "stand-ins.sh: $package is not installed; install it with 'apt-get install $package'" >&2
        exit 1
    }
done

# What the image zookeeper:3.9 does by itself: it listens everywhere, with its files in /data.
SETTINGS='tickTime=500\ndataDir=/tmp/zookeeper\nclientPort=2181\nadmin.enableServer=false\n4lw.commands.whitelist=srvr,ruok\n'
RUN="mkdir -p /tmp/zookeeper && printf '$SETTINGS' >/tmp/zoo.cfg && exec java -Xmx128m -cp \
/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar org.apache.zookeeper.server.quorum.QuorumPeerMain /tmp/zoo.cfg"
json() { python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"; }

image "$PREFIX-zookeeper" "CMD $(json sh -c "$RUN")" 'ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin' 'WORKDIR /tmp' -- \
    zookeeper default-jre-headless netcat-openbsd dash coreutils libc-bin base-files
image "$PREFIX-redis" "CMD $(json sh -c 'mkdir -p /data && cd /data && exec redis-server --bind 0.0.0.0 --protected-mode no')" \
    'ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin' -- redis-server dash coreutils libc-bin base-files

echo "export ZOOKEEPER_IMAGE=$PREFIX-zookeeper REDIS_IMAGE=$PREFIX-redis"
