#!/bin/sh
# Run at the end of boot, which waits for it.  /opt/bootlocal.sh is for what may run
# in the background.
/usr/bin/sethostname box
/opt/bootlocal.sh &
