/* A camera that speaks RTSP and shows what it is told to: sends a file of H.264 (annex B, a slice a picture, key frame first)
 * within the connection, again and again, and reads it again each time, so that whoever replaces the file changes the view.
 *
 *     rtsp PORT PICTURES_A_SECOND FILE        one that looks at a time, at 127.0.0.1
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIECE = 1400 };
static unsigned char stream[1 << 20];
static unsigned short sequence;
static unsigned time_of_picture;

static int fail(const char *what) {
    perror(what);
    return 1;
}

/* One packet: its header, up to two bytes that stand before the rest, and the rest. */
static int packet(int to, const unsigned char *before, int count, const unsigned char *rest, int length, int last) {
    int size = 12 + count + length;
    unsigned char head[18] = {'$', 0, size >> 8, size, 0x80, 96 | (last ? 128 : 0), sequence >> 8, sequence,
        time_of_picture >> 24, time_of_picture >> 16, time_of_picture >> 8, time_of_picture, 1, 2, 3, 4};
    memcpy(head + 16, before, count);
    sequence++;
    return send(to, head, 16 + count, MSG_NOSIGNAL) < 0 || send(to, rest, length, MSG_NOSIGNAL) < 0;
}

/* One unit, in pieces where it is long (RFC 6184). */
static int unit(int to, const unsigned char *bytes, int length, int last) {
    if (length <= PIECE) return packet(to, bytes, 0, bytes, length, last);
    unsigned char head[2] = {(bytes[0] & 0x60) | 28, (bytes[0] & 0x1f) | 0x80};
    for (int at = 1; at < length; at += PIECE, head[1] &= 0x1f) {
        int left = length - at, piece = left > PIECE ? PIECE : left;
        if (left <= PIECE) head[1] |= 0x40;
        if (packet(to, head, 2, bytes + at, piece, last && left <= PIECE)) return 1;
    }
    return 0;
}

/* Where the next unit begins, or the end. */
static int next_unit(int from, int size) {
    for (int at = from; at + 3 < size; at++)
        if (!stream[at] && !stream[at + 1] && stream[at + 2] == 1) return at + 3;
    return size;
}

/* Answers a request of which all has come; 1 once it is to send pictures, -1 at the end. */
static int answer(int to, const char *request) {
    const char *number = strstr(request, "CSeq:"), *more = "Session: 7\r\n";
    char body[200] = "", out[600];
    int describe = !strncmp(request, "DESCRIBE", 8);
    if (describe) {
        strcpy(body, "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=box\r\nt=0 0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\n"
                     "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track\r\n");
        more = "Content-Type: application/sdp\r\n";
    }
    if (!strncmp(request, "SETUP", 5)) more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 7\r\n";
    snprintf(out, sizeof out, "RTSP/1.0 200 OK\r\nCSeq: %d\r\n%sContent-Length: %zu\r\n\r\n%s", number ? atoi(number + 5) : 0, more,
        strlen(body), body);
    if (send(to, out, strlen(out), MSG_NOSIGNAL) < 0 || !strncmp(request, "TEARDOWN", 8)) return -1;
    return !strncmp(request, "PLAY", 4);
}

/* Takes what has come of requests, and reports, which nobody reads; the same answers. */
static int listen_to(int from, char *text, int *length, int most) {
    int count = read(from, text + *length, most - 1 - *length), playing = 0;
    if (count <= 0) return -1;
    text[*length += count] = 0;
    for (;;) {
        int taken;
        char *end;
        if (text[0] == '$' && *length >= 4) {
            taken = 4 + (((unsigned char)text[2] << 8) | (unsigned char)text[3]);
            if (taken > *length) return playing;
        } else if (text[0] != '$' && (end = strstr(text, "\r\n\r\n"))) {
            taken = end + 4 - text;
            int said = answer(from, text);
            if (said < 0) return -1;
            playing |= said;
        } else {
            return playing;
        }
        memmove(text, text + taken, *length - taken + 1);
        *length -= taken;
    }
}

static void serve(int client, int rate, const char *path) {
    static char text[8192];
    int length = 0, playing = 0;
    for (;;) {
        struct pollfd waits = {.fd = client, .events = POLLIN};
        FILE *file = playing ? fopen(path, "rb") : NULL;
        int size = file ? fread(stream, 1, sizeof stream, file) : 0;
        if (file) fclose(file);
        if (!size) {
            int said = listen_to(client, text, &length, sizeof text);
            if (said < 0) return;
            playing |= said;
            continue;
        }
        for (int at = next_unit(0, size); at < size;) {
            int after = next_unit(at, size), end = after < size ? after - 3 : size, kind = stream[at] & 0x1f;
            while (end > at && !stream[end - 1]) end--;
            int picture = kind == 1 || kind == 5;
            if (unit(client, stream + at, end - at, picture)) return;
            if (picture) {
                time_of_picture += 90000 / rate;
                usleep(1000000 / rate);
            }
            while (poll(&waits, 1, 0) > 0)
                if (listen_to(client, text, &length, sizeof text) < 0) return;
            at = after;
        }
    }
}

int main(int count, char **arguments) {
    if (count != 4) {
        fputs("usage: rtsp PORT PICTURES_A_SECOND FILE\n", stderr);
        return 2;
    }
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&place, sizeof place) || listen(listener, 4)) return fail("the port");
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) return fail("accept");
        serve(client, atoi(arguments[2]), arguments[3]);
        close(client);
    }
}
