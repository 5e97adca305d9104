//! HTTP/1.1 by hand: what is sent is what is written here, and nothing of the answer is hidden.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// Every value of a header, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a header that is there once.
    pub fn one(&self, name: &str) -> Result<&str, String> {
        match self.all(name)[..] {
            [value] => Ok(value),
            ref others => Err(format!("{} answers {name}: {others:?}", self.status)),
        }
    }

    /// Whether a header that lists things lists this one.
    pub fn lists(&self, name: &str, wanted: &str) -> Result<(), String> {
        let values = self.all(name).join(",");
        let found = values.split(',').any(|one| one.trim().eq_ignore_ascii_case(wanted));
        found.then_some(()).ok_or_else(|| format!("{name} lacks {wanted}: {values:?}"))
    }
}

/// Sends one request on a connection of its own.
pub fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer, String> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || matches!(method, "POST" | "PATCH" | "PUT") {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    request += &format!("Connection: close\r\n\r\n{body}");
    let text = exchange(address, &request).map_err(|error| format!("{method} {path}: {error}"))?;
    read(&text, method).ok_or_else(|| format!("{method} {path}: no answer of HTTP: {text:?}"))
}

fn exchange(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// An answer whose body is as long as it says.
fn read(text: &str, method: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    });
    let answer = Answer { status, headers: headers.collect::<Option<_>>()?, body: body.to_owned() };
    let said = answer.one("content-length").map_or(0, |said| said.parse().unwrap_or(usize::MAX));
    (body.len() == said || method == "HEAD" && body.is_empty()).then_some(answer)
}
