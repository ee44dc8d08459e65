#!/bin/sh
# A command of the installed server, with its settings and its rights: sudo sungrow-server token list
# Files are in the service's own folder, /var/lib/sungrow-server. docs/deployment.md puts this into /usr/local/bin.
exec systemd-run --quiet --pipe --wait --collect \
  --property=EnvironmentFile=/etc/sungrow-server/server.env \
  --property=DynamicUser=yes --property=User=sungrow-server --property=UMask=0027 \
  --property=StateDirectory=sungrow-server --property=StateDirectoryMode=0750 \
  --property=WorkingDirectory=/var/lib/sungrow-server \
  /opt/sungrow-server/bin/sungrow-server "$@"
