/* A camera that shows what it is told to: writes a file as the frames of a v4l2loopback device, and reads it again for each
 * frame, so that whoever replaces the file changes the view.
 *
 *     feed DEVICE MJPG|YUYV WIDTH HEIGHT FRAMES_A_SECOND FILE
 *     feed unplug DEVICE        the kernel's vivid camera goes away, as if its cable were drawn
 */
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* VIVID_CID_DISCONNECT of the kernel's vivid-ctrls.c, which no header offers. */
#define VIVID_DISCONNECT (0x00f00000 + 0xf000 + 65)

static char frame[1 << 22];

static int fail(const char *what) {
    perror(what);
    return 1;
}

static int unplug(const char *device) {
    struct v4l2_control control = {.id = VIVID_DISCONNECT, .value = 1};
    int camera = open(device, O_RDWR);
    if (camera < 0) return fail(device);
    return ioctl(camera, VIDIOC_S_CTRL, &control) ? fail("disconnect") : 0;
}

int main(int count, char **arguments) {
    if (count == 3 && !strcmp(arguments[1], "unplug")) return unplug(arguments[2]);
    if (count != 7) {
        fputs("usage: feed DEVICE MJPG|YUYV WIDTH HEIGHT FRAMES_A_SECOND FILE\n", stderr);
        return 2;
    }
    const char *device = arguments[1], *code = arguments[2], *path = arguments[6];
    int camera = open(device, O_RDWR);
    if (camera < 0) return fail(device);
    struct v4l2_format format = {.type = V4L2_BUF_TYPE_VIDEO_OUTPUT};
    format.fmt.pix.width = atoi(arguments[3]);
    format.fmt.pix.height = atoi(arguments[4]);
    format.fmt.pix.pixelformat = v4l2_fourcc(code[0], code[1], code[2], code[3]);
    format.fmt.pix.field = V4L2_FIELD_NONE;
    format.fmt.pix.sizeimage = 2 * format.fmt.pix.width * format.fmt.pix.height;
    if (ioctl(camera, VIDIOC_S_FMT, &format)) return fail("the format");
    struct v4l2_streamparm rate = {.type = V4L2_BUF_TYPE_VIDEO_OUTPUT};
    rate.parm.output.timeperframe.numerator = 1;
    rate.parm.output.timeperframe.denominator = atoi(arguments[5]);
    if (ioctl(camera, VIDIOC_S_PARM, &rate)) return fail("the rate");
    for (;; usleep(1000000 / atoi(arguments[5]))) {
        FILE *file = fopen(path, "rb");
        if (!file) return fail(path);
        size_t size = fread(frame, 1, sizeof frame, file);
        fclose(file);
        if (write(camera, frame, size) != (ssize_t)size) return fail(device);
    }
}
