use super::channel::{Channel, MAX_ANSWER};
use super::*;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Asks an agent that a thread makes up.
fn against(
    limit: Duration,
    end: End,
    gone: &dyn Fn() -> bool,
    agent: impl FnOnce(UnixStream) + Send + 'static,
) -> Result<Option<Value>> {
    let (ours, theirs) = UnixStream::pair().expect("socketpair");
    let served = std::thread::spawn(move || agent(theirs));
    let mut channel = Channel::over(ours, gone)?;
    let answer = channel
        .sync(4_000_000_000, limit)
        .and_then(|()| channel.ask(&command("guest-ping", Dict::default()), limit, end));
    drop(channel);
    served.join().expect("agent");
    answer
}

const LIMIT: Duration = Duration::from_millis(600);

/// Says the number back after what an earlier command left; the reader has seen the command.
fn synced(stream: &UnixStream) -> BufReader<UnixStream> {
    let mut reader = BufReader::new(stream.try_clone().expect("clone"));
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).expect("request");
    assert_eq!(line[0], 0xff);
    let request = json::parse(&line[1..]).expect("json");
    assert_eq!(request.get("execute").and_then(Value::as_str), Some("guest-sync-delimited"));
    let id = request.get("arguments").and_then(|it| it.get("id")).expect("id");
    let mut text = b"{\"return\": 7}\n{\"return\": {\"late\": \"answer\"}}\n{\"retu\xff".to_vec();
    text.extend(format!("{{\"return\": {id}}}\n").as_bytes());
    (&mut &*stream).write_all(&text).expect("answer");
    line.clear();
    reader.read_until(b'\n', &mut line).expect("request");
    assert_eq!(line, b"{\"execute\":\"guest-ping\"}\n");
    reader
}

fn text(answer: Result<Option<Value>>) -> String {
    match answer {
        Ok(Some(value)) => value.compact(),
        Ok(None) => "none".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn good_agent() {
    let answer = against(LIMIT, End::Failure, &|| false, |mut stream| {
        let _reader = synced(&stream);
        stream.write_all(b"\n{\"event\": 1}\n{\"return\": {\"a\"").expect("answer");
        std::thread::sleep(Duration::from_millis(50));
        stream.write_all(b": 1}}\n{\"return\": 2}\n").expect("answer");
    });
    assert_eq!(text(answer), "{\"return\":{\"a\":1}}");
}

#[test]
fn agent_of_old() {
    let answer = against(LIMIT, End::Failure, &|| false, |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().expect("clone"));
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).expect("request");
        stream.write_all(b"{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"\"}}\n").expect("answer");
        line.clear();
        reader.read_until(b'\n', &mut line).expect("request");
        assert_eq!(line, b"{\"execute\":\"guest-sync\",\"arguments\":{\"id\":4000000000}}\n");
        stream.write_all(b"{\"return\": 4000000000}\n").expect("answer");
        line.clear();
        reader.read_until(b'\n', &mut line).expect("request");
        stream.write_all(b"{\"return\": {}}\n").expect("answer");
    });
    assert_eq!(text(answer), "{\"return\":{}}");
}

#[test]
fn silent_and_late_agents() {
    const SILENT: &str = "Guest agent is not responding: Guest agent not available for now";
    let begin = Instant::now();
    // Says nothing at all.
    let mute = against(LIMIT, End::Failure, &|| false, |stream| {
        let mut reader = BufReader::new(stream);
        let mut all = Vec::new();
        while reader.read_until(b'\n', &mut all).expect("read") > 0 {}
    });
    assert_eq!(text(mute), SILENT);
    // Answers, but late.
    let late = against(LIMIT, End::Success, &|| false, |mut stream| {
        let _reader = synced(&stream);
        std::thread::sleep(LIMIT * 2);
        let _ = stream.write_all(b"{\"return\": {}}\n");
    });
    assert_eq!(text(late), SILENT);
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn endless_agents() {
    // No line ever ends: the limit of size.
    let long = against(Duration::from_secs(60), End::Failure, &|| false, |mut stream| {
        let _reader = synced(&stream);
        while stream.write_all(&[b'['; 1 << 16]).is_ok() {}
    });
    assert!(text(long).contains(&format!("No complete agent response found in {MAX_ANSWER} bytes")));
    // Lines without end, a few at a time: the limit of time.
    let begin = Instant::now();
    let many = against(LIMIT, End::Failure, &|| false, |mut stream| {
        let _reader = synced(&stream);
        while stream.write_all(b"{\"event\": \"x\"}\n").is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert!(text(many).contains("not available for now"));
    assert!(begin.elapsed() < Duration::from_secs(5));
    // The same instead of the first answer.
    let never = against(
        LIMIT,
        End::Failure,
        &|| false,
        |mut stream| {
            while stream.write_all(&[b'\n'; 1 << 16]).is_ok() {}
        },
    );
    assert!(never.is_err());
}

#[test]
fn agents_that_go() {
    const GONE: &str = "Guest agent is not responding: Guest agent disappeared while executing command";
    assert_eq!(text(against(LIMIT, End::Failure, &|| false, |stream| drop(synced(&stream)))), GONE);
    assert_eq!(text(against(LIMIT, End::Success, &|| false, |stream| drop(synced(&stream)))), "none");
    // The guest is known to have ended while its socket lives on.
    let begin = Instant::now();
    let away = against(Duration::from_secs(60), End::Failure, &|| true, |stream| {
        let mut reader = synced(&stream);
        let _ = reader.read_until(b'\n', &mut Vec::new());
    });
    assert_eq!(text(away), GONE);
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn nonsense() {
    let mut said = Vec::new();
    for answer in ["7\n", "{}\n", "{\"return\n", "{\"a\": 1}\n", "\u{0}\n"] {
        let heard = against(LIMIT, End::Failure, &|| false, move |mut stream| {
            let _reader = synced(&stream);
            stream.write_all(answer.as_bytes()).expect("answer");
        });
        said.push(text(heard));
    }
    assert_eq!(said[0], "internal error: Parsed JSON reply '7' isn't an object");
    assert_eq!(said[1], "internal error: Unknown JSON reply '{}'");
    assert_eq!(said[3], "internal error: Unknown JSON reply '{\"a\": 1}'");
    assert!(said.iter().all(|text| text.starts_with("internal error: ")), "{said:?}");
    let deep = format!("{{\"return\": {}", "[".repeat(100_000));
    let heard = against(LIMIT, End::Failure, &|| false, move |mut stream| {
        let _reader = synced(&stream);
        let _ = stream.write_all(format!("{deep}\n").as_bytes());
    });
    assert!(heard.is_err());
}

#[test]
fn refusals() {
    let answer = |text: &str| json::parse(text.as_bytes()).expect("json");
    let says = |text: &str| match outcome("guest-x", &answer(text)) {
        Ok(value) => value.compact(),
        Err(Refusal::Unknown(error)) => format!("unknown: {error}"),
        Err(Refusal::Failed(error)) => error.to_string(),
    };
    assert_eq!(says("{\"return\": null}"), "null");
    assert_eq!(
        says("{\"error\": {\"class\": \"CommandNotFound\"}}"),
        "unknown: internal error: unable to execute QEMU agent command 'guest-x': The command has not been found"
    );
    assert_eq!(
        says("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}"),
        "internal error: unable to execute QEMU agent command 'guest-x': no"
    );
    assert_eq!(says("{\"a\": 1}"), "internal error: unable to execute QEMU agent command 'guest-x'");
}

#[test]
fn limits() {
    assert_eq!(limit(BLOCK).expect("limit"), LONGEST);
    assert_eq!(limit(7).expect("limit"), Duration::from_secs(7));
    assert_eq!(
        limit(-3).expect_err("too small").to_string(),
        "invalid argument: guest agent timeout '-3' is less than the minimum '-2'"
    );
}
