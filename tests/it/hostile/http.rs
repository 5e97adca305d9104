//! Requests at the HTTP door that are not what they seem, or nothing at all.

use super::attack::{Attack, CANARY, Door, Step};
use crate::common::Dice;

const PATHS: &[&str] = &[
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/whep/sim",
    "/ws/sim",
    "/snapshot/sim.jpg",
    "/viewer/viewer.js",
    "/api/v1/status",
    "/api/v1/cameras",
    "/api/v1/cameras/sim",
    "/api/v1/sessions",
    "/api/v1/sessions/00000000-0000-4000-8000-000000000000",
    "/api/v1/openapi.json",
    "/whep/sim/00000000-0000-4000-8000-000000000000",
    "/nothing",
];

const METHODS: &[&str] = &[
    "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get",
    "G3T", "DESCRIBE", "PRI", "M-SEARCH",
];

/// A request that is understood alike by everybody.
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn http(form: &'static str, bytes: impl Into<Vec<u8>>) -> Attack {
    Attack::new(Door::Http, form, bytes)
}

/// A request that only a body may hold.
fn canary() -> String {
    format!("GET {CANARY} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// One request of this door.
pub fn throw(dice: &mut Dice) -> Attack {
    match dice.below(16) {
        0 | 1 => lengths_that_differ(dice),
        2 => two_lengths(dice),
        3 => odd_lines(dice),
        4 => targets(dice),
        5 => too_much(dice),
        6 => broken_chunks(dice),
        7 => many_at_once(dice),
        8 => half(dice),
        9 => methods(dice),
        10 => traversal(dice),
        11 => queries(dice),
        12 => bodies(dice),
        13 => other_protocols(dice),
        14 => odd_headers(dice),
        _ => api(dice),
    }
}

/// Content-Length and Transfer-Encoding in one request (CL.TE, TE.CL, TE.TE).
fn lengths_that_differ(dice: &mut Dice) -> Attack {
    let coding = dice.pick(&[
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: CHUNKED",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked, x",
        "Transfer-Encoding: identity, chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer_Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
    ]);
    let body = format!("0\r\n\r\n{}", canary());
    let lengths = [body.len(), 5, 4, 0, body.len() + 100];
    // By one of the two lengths the rest is a request of its own; the connection must end first.
    let length = lengths[dice.below(2) as usize * dice.below(5) as usize];
    let path = dice.pick(&["/whep/sim", "/healthz", "/api/v1/cameras/sim"]);
    let method = dice.pick(&["POST", "GET", "PATCH"]);
    let bytes = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n\
         Content-Length: {length}\r\n{coding}\r\n\r\n{body}"
    );
    let underscored = coding.starts_with("Transfer_Encoding");
    if underscored && length < body.len() {
        // Then the length alone counts, and what follows is another request by everybody's book.
        return Attack::unfinished(
            Door::Http,
            "a length that cuts a body",
            &bytes.as_bytes()[..bytes.len() - body.len() + length],
        );
    }
    Attack::steps(
        Door::Http,
        "Content-Length beside Transfer-Encoding",
        vec![Step::Say(bytes.into()), Step::Wait(std::time::Duration::from_millis(30)), Step::End],
    )
}

fn two_lengths(dice: &mut Dice) -> Attack {
    let body = canary();
    let right = body.len();
    let lengths = match dice.below(12) {
        0 => format!("Content-Length: {right}\r\nContent-Length: {right}"),
        1 => format!("Content-Length: {right}\r\nContent-Length: 0"),
        2 => format!("Content-Length: 0\r\nContent-Length: {right}"),
        3 => format!("Content-Length: {right}, {right}"),
        4 => format!("Content-Length: +{right}"),
        5 => format!("Content-Length: -{right}"),
        6 => format!("Content-Length: 0x{right:x}"),
        7 => "Content-Length: 99999999999999999999999".into(),
        8 => "Content-Length: 18446744073709551615".into(),
        9 => format!("Content-Length: {right} {right}"),
        10 => "Content-Length: ".into(),
        _ => format!("Content-Length: {right}.0"),
    };
    let path = dice.pick(&["/whep/sim", "/healthz"]);
    let bytes = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{lengths}\r\n\r\n{body}");
    Attack::unfinished(Door::Http, "odd lengths", bytes)
}

fn odd_lines(dice: &mut Dice) -> Attack {
    let path = dice.pick(PATHS);
    let bytes = match dice.below(14) {
        0 => format!("GET {path} HTTP/1.1\nHost: localhost\n\n"),
        1 => format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n"),
        2 => format!("GET {path} HTTP/1.1\rHost: localhost\r\r"),
        3 => format!("GET {path} HTTP/1.1\r\nHost : localhost\r\n\r\n"),
        4 => format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n"),
        5 => format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n: empty\r\n\r\n"),
        6 => format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n"),
        7 => format!("GET  {path}  HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        8 => format!("\r\n\r\n\r\nGET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        9 => format!("GET {path}\r\n\r\n"),
        10 => format!("GET {path} HTTP/1.1\r\n\r\n"),
        11 => format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"),
        12 => format!("GET {path} HTTP/9.9\r\nHost: localhost\r\n\r\n"),
        _ => {
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "\u{7f}\u{1}\u{e9}")
        }
    };
    // A lone CR ends no line for some, who wait for more.
    Attack::unfinished(Door::Http, "odd lines", bytes)
}

fn targets(dice: &mut Dice) -> Attack {
    let target = dice.pick(&[
        "http://evil.example/api/v1/status",
        "http://localhost/api/v1/status",
        "*",
        "localhost:80",
        "//evil.example/",
        "http://localhost@evil.example/",
        "http://[::1]:80/healthz",
        "http://",
        "healthz",
        "?",
        "#",
        "/healthz#frag",
        "http://localhost:99999/",
        "\\healthz",
        "/\\evil.example",
    ]);
    let host = dice.pick(&[
        "localhost",
        "evil.example",
        "127.0.0.1:1",
        "[::1]",
        "",
        "localhost.evil.example",
        "127.1",
        "0x7f.1",
        "localhost:port",
        "a b",
        "2130706433",
        "localhost\t",
        "[",
        "[::ffff:127.0.0.1]:80",
    ]);
    let bytes = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    http("odd targets and hosts", bytes)
}

fn too_much(dice: &mut Dice) -> Attack {
    let path = dice.pick(PATHS);
    let begin = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
    let bytes = match dice.below(6) {
        0 => format!("{begin}X: {}\r\n\r\n", "a".repeat(12_000 + dice.below(12_000) as usize)),
        1 => begin + &"X: y\r\n".repeat(60 + dice.below(400) as usize) + "\r\n",
        2 => format!(
            "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "a/".repeat(dice.below(20_000) as usize)
        ),
        3 => begin + &"n".repeat(40_000),
        4 => format!(
            "{} / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "M".repeat(1 + dice.below(20_000) as usize)
        ),
        _ => begin + &format!("Cookie: {}\r\n", "a=b; ".repeat(200)).repeat(60) + "\r\n",
    };
    http("too much of it", bytes)
}

fn broken_chunks(dice: &mut Dice) -> Attack {
    let chunks: String = match dice.below(12) {
        0 => "zz\r\nabc\r\n0\r\n\r\n".into(),
        1 => "-1\r\nabc\r\n0\r\n\r\n".into(),
        2 => "FFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n".into(),
        3 => "10000000000000000000\r\nabc".into(),
        4 => format!("3;{}\r\nabc\r\n0\r\n\r\n", "e".repeat(20_000)),
        5 => "3\r\nabcXX0\r\n\r\n".into(),
        6 => "3\nabc\n0\n\n".into(),
        7 => "0x3\r\nabc\r\n0\r\n\r\n".into(),
        8 => format!("3\r\nabc\r\n0\r\n{}\r\n", "T: v\r\n".repeat(1 + dice.below(3000) as usize)),
        9 => "1\r\na\r\n".repeat(dice.below(20_000) as usize),
        10 => format!("{:x}\r\n{}\r\n0\r\n\r\n", 70_000, "b".repeat(70_000)),
        _ => format!("3\r\nabc\r\n0\r\nX: y\r\n{}", canary()),
    };
    let path = dice.pick(&["/whep/sim", "/healthz", "/api/v1/cameras/sim"]);
    let method = dice.pick(&["POST", "PATCH"]);
    let kind = dice.pick(&["application/sdp", "application/json", "text/plain"]);
    let bytes = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{chunks}"
    );
    Attack::unfinished(Door::Http, "broken chunks", bytes)
}

/// Correct, and answered one by one.
fn many_at_once(dice: &mut Dice) -> Attack {
    let count = 2 + dice.below(40) as usize;
    let path = dice.pick(&["/healthz", "/nothing", "/api/v1/status", "/whep/none"]);
    let one = request(dice.pick(&["GET", "OPTIONS"]), path, "", b"");
    let steps = vec![Step::Say(one.repeat(count)), Step::Hear(count), Step::End];
    Attack::steps(Door::Http, "many at once", steps)
}

fn half(dice: &mut Dice) -> Attack {
    let whole = request(
        "POST",
        dice.pick(PATHS),
        "Content-Type: application/sdp\r\n",
        b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n",
    );
    let cut = dice.below(whole.len() as u64) as usize;
    let mut attack = Attack::unfinished(Door::Http, "half a request", &whole[..cut]);
    if dice.below(2) == 0 {
        attack.steps = vec![Step::Say(whole[..cut].to_vec()), Step::Reset];
    }
    attack
}

fn methods(dice: &mut Dice) -> Attack {
    let method = dice.pick(METHODS);
    http("wrong methods", request(method, dice.pick(PATHS), "", b""))
}

fn traversal(dice: &mut Dice) -> Attack {
    let begin = dice.pick(&[
        "/viewer/",
        "/snapshot/",
        "/whep/",
        "/ws/",
        "/api/v1/cameras/",
        "/",
        "/api/v1/sessions/",
    ]);
    let rest = dice.pick(&[
        "../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "....//....//etc/passwd",
        "%00",
        "sim%00.jpg",
        "%c0%ae%c0%ae/etc/passwd",
        "%ff%fe",
        "%",
        "%z1",
        "%2",
        "..\\..\\windows",
        "sim;.jpg",
        "sim%0d%0aX-Injected:%20yes",
        "//",
        "sim/",
        "sim/../sim",
        "*",
        "'\"><script>",
        "${jndi:ldap://x}",
        "%25%32%65",
        "sim%20",
        "\u{202e}gpj",
        "viewer.js%00.html",
        "..;/",
        "~root",
        ".git/config",
        "sim.jpg.jpg",
    ]);
    let bytes = format!("GET {begin}{rest} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    // `/viewer/../../etc/passwd` and the like are served nowhere.
    http("path traversal", bytes).only(&[400, 404, 405, 426])
}

fn queries(dice: &mut Dice) -> Attack {
    let query = match dice.below(8) {
        0 => "rendition=%ff%fe".into(),
        1 => format!("rendition={}", "r".repeat(dice.below(9_000) as usize)),
        2 => "rendition=a&rendition=b".into(),
        3 => "&&&===&%".into(),
        4 => "rendition[]=x&rendition[a][b]=y".into(),
        5 => "a=b&".repeat(dice.below(2_000) as usize),
        6 => "rendition=%0d%0aX-Injected:%20yes".into(),
        _ => "rendition='%20OR%201=1;--&camera=../..".to_owned(),
    };
    let method = dice.pick(&["GET", "POST", "OPTIONS"]);
    http("odd queries", request(method, &format!("{}?{query}", dice.pick(PATHS)), "", b""))
}

fn bodies(dice: &mut Dice) -> Attack {
    let size = [65_535, 65_536, 65_537, 100_000, 300_000][dice.below(5) as usize];
    let kind = dice.pick(&[
        "Content-Type: application/sdp\r\n",
        "Content-Type: application/SDP; charset=x\r\n",
        "Content-Type: text/plain\r\n",
        "",
        "Content-Type: application/sdp\r\nContent-Encoding: gzip\r\n",
        "Content-Type: application/sdp\r\nExpect: 100-continue\r\n",
        "Content-Type: \u{ff}\r\n",
        "Content-Type: application/sdp\r\nExpect: the-unexpected\r\n",
    ]);
    let path = dice.pick(&["/whep/sim", "/api/v1/cameras/sim", "/"]);
    let bytes = request(dice.pick(&["POST", "PATCH"]), path, kind, &b"v".repeat(size));
    http("large bodies and odd types", bytes).only(&[400, 404, 405, 413, 415, 417, 422])
}

fn other_protocols(dice: &mut Dice) -> Attack {
    let bytes: Vec<u8> = match dice.below(6) {
        0 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        1 => [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &dice.bytes(400)].concat(),
        2 => b"OPTIONS rtsp://localhost/sim RTSP/1.0\r\nCSeq: 1\r\n\r\n".to_vec(),
        3 => b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        4 => format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: {}\r\n\r\n", "A".repeat(40)).into(),
        _ => dice.bytes(3_000),
    };
    Attack::unfinished(Door::Http, "other protocols", bytes)
}

fn odd_headers(dice: &mut Dice) -> Attack {
    let header = dice.pick(&[
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: \u{fc}",
        "Origin: http://localhost.evil.example",
        "Range: bytes=0-99999999999999999999",
        "Range: bytes=-1,0-0,0-0,0-0",
        "If-None-Match: *",
        "Accept: \u{0}",
        "Accept: ,;q=x,*/*;q=9",
        "Accept-Encoding: gzip;q=-1",
        "Connection: close, keep-alive, x",
        "TE: trailers, x",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: evil.example",
        "X-HTTP-Method-Override: DELETE",
        "Authorization: Basic !!!!",
        "Authorization: Bearer \u{7f}",
        "Authorization: Digest a=\"",
        "Cookie: \u{1}",
        "If-Match: \"",
        "Keep-Alive: timeout=99999999999",
        "Upgrade: websocket",
        "Expect: 100-continue",
        "Access-Control-Request-Method: X\r\nOrigin: http://evil.example",
        "Max-Forwards: -1",
        "Via: \u{ff}",
    ]);
    let method = dice.pick(&["GET", "OPTIONS", "DELETE"]);
    http("odd headers", request(method, dice.pick(PATHS), &format!("{header}\r\n"), b""))
}

/// JSON where the API takes it.
fn api(dice: &mut Dice) -> Attack {
    let body = match dice.below(10) {
        0 => "[".repeat(dice.below(60_000) as usize),
        1 => format!("{{\"bitrate_kbps\":{}", "{\"a\":".repeat(dice.below(9_000) as usize)),
        2 => "{\"bitrate_kbps\":1e999}".into(),
        3 => "{\"bitrate_kbps\":-1}".into(),
        4 => "{\"bitrate_kbps\":18446744073709551616}".into(),
        5 => "{\"keyframe\":\"\u{0}\",\"__proto__\":{}}".into(),
        6 => "\u{feff}{}".into(),
        7 => format!("{{\"controls\":{{{}}}}}", "\"x\":1,".repeat(5_000)),
        8 => "null".into(),
        _ => String::from_utf8_lossy(&dice.bytes(300)).into_owned(),
    };
    let kind = dice.pick(&["application/json", "application/merge-patch+json", "text/json"]);
    let path = dice.pick(&["/api/v1/cameras/sim", "/api/v1/cameras/none"]);
    let header = format!("Content-Type: {kind}\r\n");
    http("JSON that is none", request("PATCH", path, &header, body.as_bytes()))
        .only(&[200, 204, 400, 404, 409, 413, 415, 422])
}
