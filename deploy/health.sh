#!/bin/bash
# Well while /readyz says 200. No Python is started for it where there is no TLS: on a busy machine that alone takes
# seconds. Where clients need a certificate, which this one has not got, a server that listens has to do.
set -eu
exec 3<>"/dev/tcp/127.0.0.1/$DIABOLO_PORT"
[ -z "${DIABOLO_TLS_CLIENT_CA:-}" ] || exit 0
if [ -n "${DIABOLO_TLS_CERTIFICATE:-}" ]; then
  exec python3 -c '
import os, ssl, urllib.request
address = "https://127.0.0.1:" + os.environ["DIABOLO_PORT"] + "/readyz"
urllib.request.urlopen(address, timeout=5, context=ssl._create_unverified_context())'
fi
printf 'GET /readyz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3
read -r -t 5 answer <&3
[[ $answer == *' 200 '* ]]
