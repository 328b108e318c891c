#!/bin/sh
# Every version under /shipped is under /models: those that are not there yet are copied, each appearing as a whole.
# Nothing is ever replaced or removed, so what was trained here stays, and what is published never changes.
set -eu
cd /shipped
for version in */*/; do
  version=${version%/}
  if [ -f "$version/manifest.json" ] && [ ! -e "/models/$version" ]; then
    name=${version%/*}
    mkdir -p "/models/$name"
    coming="/models/$name/.coming"
    rm -rf "$coming"
    cp -R "$version" "$coming"
    mv "$coming" "/models/$version"
    echo "copied $version"
  fi
done
