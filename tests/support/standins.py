# SPDX-License-Identifier: MIT
"""Programs in place of those that cannot be had here, compiled from C: real ELF files that do
as little of the real ones' work as scripts and checks can see."""

from __future__ import annotations

import subprocess
from pathlib import Path

# Opens the socket that --addr names.  --broken: ends with an error; --mute: opens none.
BUILDKITD = r"""
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int mute = 0;
    setvbuf(stdout, 0, _IONBF, 0);
    for (int i = 1; i < argc; i++) {
        printf("argument %s\n", argv[i]);
        if (!strcmp(argv[i], "--broken")) return fprintf(stderr, "no such worker\n"), 1;
        if (!strcmp(argv[i], "--mute")) mute = 1;
        if (!strcmp(argv[i], "--addr") && !strncmp(argv[i + 1], "unix://", 7))
            strncpy(name.sun_path, argv[i + 1] + 7, sizeof name.sun_path - 1);
    }
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    if (!mute && (bind(s, (struct sockaddr *)&name, sizeof name) || listen(s, 5))) return perror("bind"), 1;
    for (;;) pause();
}
"""

# Exits with 0 if somebody listens at --addr.
BUILDCTL = r"""
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
int main(int argc, char **argv) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], "--addr")) strncpy(name.sun_path, argv[i + 1] + 7, sizeof name.sun_path - 1);
    return connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&name, sizeof name) != 0;
}
"""

# faasd: answers every request on the loopback ports that stand in the file `port` of its folder, the
# second of which is the gateway's own.  `faasd up` tells the gateway's address in `hosts`.
# Ends with an error if there is a file `broken`, whose text it says; with `mute` it does not listen; with
# `early`, which it takes away, it listens at the last port alone.
FAASD = r"""
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) printf("argument %s\n", argv[i]);
    printf("secret_mount_path %s\n", getenv("secret_mount_path") ? getenv("secret_mount_path") : "-");
    fflush(stdout);
    char text[4096], answer[] = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok";
    FILE *file = fopen("broken", "r");
    if (file) return fputs(fgets(text, sizeof text, file) ? text : "image not found\n", stderr), 1;
    if (argc > 1 && !strcmp(argv[1], "up")) {
        file = fopen("hosts", "w");
        if (!file || fprintf(file, "127.0.0.1\tgateway\n") < 0 || fclose(file)) return perror("hosts"), 1;
    }
    struct pollfd open[2];
    int port, yes = 1, count = 0, early = !unlink("early");
    file = fopen("port", "r");
    if (!file) return perror("port"), 1;
    while (access("mute", F_OK) && count < 2 && fscanf(file, "%d", &port) == 1) {
        if (early && early++ == 1) continue;
        struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
        name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int s = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        if (bind(s, (struct sockaddr *)&name, sizeof name) || listen(s, 5)) return perror("bind"), 1;
        open[count++] = (struct pollfd){.fd = s, .events = POLLIN};
    }
    for (;;) {
        poll(open, count, -1);
        for (int i = 0; i < count; i++) {
            if (!(open[i].revents & POLLIN)) continue;
            int c = accept(open[i].fd, 0, 0);
            if (read(c, text, sizeof text) > 0 && write(c, answer, sizeof answer - 1) < 0) perror("write");
            close(c);
        }
    }
}
"""

PLAIN = "int main(void) { return 0; }"


def compiled(target: Path, source: str, *flags: str) -> Path:
    """Compile C to the program `target`, static (as Go programs are) unless `flags` say otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-O1", "-x", "c", "-", "-o", str(target), *(flags or ("-static",))]
    subprocess.run(command, input=source, text=True, check=True)
    return target
