#!/bin/sh
# Give each account of a hospital its files, after init, join, and any other command run as root.
#
#   sudo sh own-site.sh
set -eu

site=/srv/smrfed
network=/var/lib/smrfed-network

# What the hospital decided is root's: neither part can change it.
chown root:smrfed-socket "$site/site.toml"
chown root:smrfed-agent "$site/policy.toml"
chmod 0640 "$site/site.toml" "$site/policy.toml"
# --no-dereference: a link that somebody left there must not hand over a file of root's.
chown --recursive --no-dereference smrfed-agent:smrfed-agent "$site/state"
chown --recursive --no-dereference smrfed-network:smrfed-network "$network"
chmod 0700 "$site/state" "$network"
