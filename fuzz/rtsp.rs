//! What a camera that speaks RTSP may send: its description (SDP), or the packets of its stream, over a real connection. The
//! first byte of an input says which. Packets are `[flags, length, payload]` with a length of two bytes; their headers are
//! made here, so that what is looked at is what lies behind them.

use edge_rlp::frames::{CameraEvent, CameraOptions, CameraSource};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

const MEDIA: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:t\r\n";
/// Of the flags of a packet: the last one of its picture, another picture than the one before, packets lost before it.
const LAST: u8 = 1;
const LATER: u8 = 2;
const LOSS: u8 = 4;

/// The camera, and what it sends next.
static CAMERA: LazyLock<(CameraSource, Mutex<TcpListener>)> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("rtsp://{}/x", listener.local_addr().unwrap());
    (address.parse().unwrap(), Mutex::new(listener))
});

/// A camera that sends `bytes`: whatever they are, there is an end to it, and no panic of ours.
pub fn rtsp(bytes: &[u8]) {
    let Some((&kind, rest)) = bytes.split_first() else {
        return;
    };
    let (description, packets) = match kind & 1 {
        0 => (rest.to_vec(), Vec::new()),
        _ => {
            let head = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n";
            (format!("{head}{MEDIA}").into_bytes(), packets(rest))
        }
    };
    let (camera, listener) = &*CAMERA;
    let listener = listener.lock().unwrap();
    let options = CameraOptions::within(Duration::from_secs(20));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if let Ok((stream, _)) = listener.accept() {
                // A client that leaves early has seen enough.
                let _ = serve(&stream, &description, &packets);
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        });
        let mut frames = camera.open(1, &options).unwrap();
        while let Ok(CameraEvent::Frame(frame)) = frames.next(&|| false) {
            assert!(frame.image.width() > 0 && frame.image.height() > 0);
        }
    });
}

fn serve(stream: &TcpStream, description: &[u8], packets: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut reader, mut out) = (BufReader::new(stream), stream);
    loop {
        let (mut method, mut sequence) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(number) = line.strip_prefix("CSeq:") {
                sequence = number.trim().to_owned();
            }
            if method.is_empty() {
                method = line.split(' ').next().unwrap_or_default().to_owned();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let (more, body) = match method.as_str() {
            "DESCRIBE" => ("Content-Type: application/sdp\r\n", description),
            "SETUP" => (
                "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 7\r\n",
                &[][..],
            ),
            _ => ("Session: 7\r\n", &[][..]),
        };
        let length = body.len();
        write!(
            out,
            "RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{more}Content-Length: {length}\r\n\r\n"
        )?;
        out.write_all(body)?;
        if method == "PLAY" {
            return out.write_all(packets);
        }
    }
}

/// The packets that `bytes` are the flags, lengths and payloads of, within the connection.
fn packets(mut bytes: &[u8]) -> Vec<u8> {
    let (mut sent, mut sequence, mut time) = (Vec::new(), 0u16, 0u32);
    while let [flags, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        bytes = rest;
        let lost = if flags & LOSS == 0 {
            0
        } else {
            u16::from(flags >> 3)
        };
        sequence = sequence.wrapping_add(1 + lost);
        if flags & LATER != 0 {
            time = time.wrapping_add(3600);
        }
        let size = u16::try_from(12 + payload.len()).unwrap_or(u16::MAX);
        if usize::from(size) != 12 + payload.len() {
            continue;
        }
        sent.extend([b'$', 0]);
        sent.extend(size.to_be_bytes());
        sent.extend([0x80, 96 | (flags & LAST) << 7]);
        sent.extend(sequence.to_be_bytes());
        sent.extend(time.to_be_bytes());
        sent.extend([1, 2, 3, 4]);
        sent.extend(payload);
    }
    sent
}
