//! Chromium, driven over WebDriver.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::time::timeout;
use url::Url;

use crate::command::mortal;
use crate::process::send_signal;

/// How long the driver and the browser may take to start, and a page to answer a script.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A headless Chromium with a profile of its own. Dropping it ends driver and browser.
#[derive(Debug)]
pub struct Chromium {
    client: Client,
    driver: Child,
    profile: TempDir,
}

impl Chromium {
    /// Starts it. With `mdns`, it hides its addresses behind mDNS names, as browsers do by
    /// default; a machine that resolves none then finds its way by the server's candidates.
    ///
    /// # Panics
    /// Where chromium or chromedriver is missing or does not start in time.
    pub async fn start(mdns: bool) -> Self {
        let profile = tempfile::tempdir().expect("a directory for the profile");
        let binary = mortal_browser(&profile).expect("a script beside the profile");
        let mut driver = mortal("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver (Debian package chromium-driver) can be started");
        let port = timeout(TIMEOUT, driver_port(&mut driver)).await;
        let port = port.ok().flatten().expect("chromedriver says which port it listens on");
        let mut capabilities = serde_json::Map::new();
        let options = json!({ "args": arguments(&profile, mdns), "binary": binary });
        capabilities.insert("goog:chromeOptions".into(), options);
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let address = format!("http://127.0.0.1:{port}");
        let builder = builder.capabilities(capabilities);
        let client = timeout(TIMEOUT, builder.connect(&address)).await;
        let client = client.expect("chromium starts in time").expect("chromium starts");
        Self { client, driver, profile }
    }

    /// Opens a page.
    ///
    /// # Panics
    /// Where it cannot be opened.
    pub async fn open(&self, url: &str) {
        self.try_open(url).await.expect("the page opens");
    }

    /// The same for a page that may be out of reach.
    ///
    /// # Errors
    /// Where it cannot be opened, in the browser's words.
    pub async fn try_open(&self, url: &str) -> Result<(), String> {
        let opened = timeout(TIMEOUT, self.client.goto(url)).await;
        let opened = opened.map_err(|_| format!("the page does not open within {TIMEOUT:?}"))?;
        // After the first line comes where in the browser it was.
        opened.map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
    }

    /// Loads the page anew.
    ///
    /// # Panics
    /// Where it cannot be loaded.
    pub async fn reload(&self) {
        let loaded = timeout(TIMEOUT, self.client.refresh()).await;
        loaded.expect("the page reloads in time").expect("the page reloads");
    }

    /// Runs a script in the page; gives what it returns.
    ///
    /// # Panics
    /// Where the script fails.
    pub async fn script(&self, script: &str) -> Value {
        let answer = timeout(TIMEOUT, self.client.execute(script, Vec::new())).await;
        let answer = answer.expect("the page answers in time");
        answer.unwrap_or_else(|error| panic!("{error}: {script}"))
    }

    /// Has the browser carry out a command of the DevTools protocol; gives its answer.
    ///
    /// # Panics
    /// Where the browser refuses, or does not answer in time.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let asked = DevTools(json!({ "cmd": command, "params": parameters }));
        let answer = timeout(TIMEOUT, self.client.issue_cmd(asked)).await;
        let answer = answer.expect("the browser answers in time");
        answer.unwrap_or_else(|error| panic!("{error}: {command}"))
    }

    /// Has the page stand still, as the tab of a browser that saves memory does: hidden, and no
    /// script or timer of it runs. Its connections stay, and media goes on to be received. Until it
    /// is [woken](Self::wake), scripts do not answer.
    ///
    /// # Panics
    /// Where the browser refuses.
    pub async fn sleep(&self) {
        self.seen(false).await;
        self.devtools("Page.setWebLifecycleState", json!({ "state": "frozen" })).await;
    }

    /// Has the page go on, and be seen.
    ///
    /// # Panics
    /// Where the browser refuses.
    pub async fn wake(&self) {
        self.devtools("Page.setWebLifecycleState", json!({ "state": "active" })).await;
        self.seen(true).await;
    }

    /// One that was frozen stays hidden without it: no window of a headless browser is in front.
    async fn seen(&self, enabled: bool) {
        self.devtools("Emulation.setFocusEmulationEnabled", json!({ "enabled": enabled })).await;
    }

    /// A picture of the page, as PNG.
    ///
    /// # Panics
    /// Where the browser gives none.
    pub async fn screenshot(&self) -> Vec<u8> {
        let taken = timeout(TIMEOUT, self.client.screenshot()).await;
        taken.expect("a screenshot in time").expect("a screenshot")
    }

    /// Sets the size of the window in pixels.
    ///
    /// # Panics
    /// Where the browser refuses.
    pub async fn resize(&self, width: u32, height: u32) {
        let resized = timeout(TIMEOUT, self.client.set_window_size(width, height)).await;
        resized.expect("resized in time").expect("resized");
    }

    /// The browser's processes: those that were started with our profile.
    pub fn pids(&self) -> Vec<u32> {
        let profile = self.profile.path().display().to_string();
        let all = procfs::process::all_processes().into_iter().flatten().flatten();
        all.filter(|process| {
            let arguments = process.cmdline().unwrap_or_default();
            arguments.iter().any(|argument| argument.contains(&profile))
        })
        .filter_map(|process| u32::try_from(process.pid).ok())
        .collect()
    }

    /// Ends the browser as a user does, by closing it.
    pub async fn close(self) {
        // What does not close is killed on drop.
        let _ = timeout(TIMEOUT, self.client.clone().close()).await;
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.driver.start_kill();
        self.pids().into_iter().for_each(|pid| send_signal(pid, Signal::KILL));
    }
}

fn arguments(profile: &TempDir, mdns: bool) -> Vec<String> {
    let fixed = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic \
        --no-first-run --disable-background-networking --disable-component-update --disable-sync \
        --disable-default-apps --mute-audio --window-size=1400,1000 \
        --autoplay-policy=no-user-gesture-required --ignore-certificate-errors";
    let mut arguments: Vec<String> = fixed.split_whitespace().map(str::to_owned).collect();
    arguments.push(format!("--user-data-dir={}", profile.path().display()));
    // It asks for its maker's at its start, and waits for the answer for 13 s where a network has none.
    arguments.push("--host-resolver-rules=MAP *.com ~NOTFOUND".into());
    if !mdns {
        arguments.push("--disable-features=WebRtcHideLocalIpsWithMdns".into());
    }
    arguments
}

/// A command by chromedriver's own extension of WebDriver.
#[derive(Debug)]
struct DevTools(Value);

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.0.to_string()))
    }
}

/// A script that starts a browser which ends with its driver, however that ends.
fn mortal_browser(profile: &TempDir) -> io::Result<PathBuf> {
    let path = profile.path().join("mortal-chromium");
    std::fs::write(&path, "#!/bin/sh\nexec setpriv --pdeathsig KILL chromium \"$@\"\n")?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(path)
}

async fn driver_port(driver: &mut Child) -> Option<u16> {
    let mut lines = BufReader::new(driver.stdout.take()?).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            let port = port.trim_end_matches('.').parse().ok();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return port;
        }
    }
    None
}
