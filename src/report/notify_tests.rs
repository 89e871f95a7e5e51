//! Which ends are notified, what is sent, and that no server delays the end by more than a few seconds.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::event::Events;

fn scope() -> Scope {
    Scope {
        project: Some("shop".to_owned()),
        service: Some("web".to_owned()),
        ..Scope::default()
    }
}

fn failed(code: Outcome) -> Event {
    Event::Failed {
        message: "it <died> & is gone".to_owned(),
        code: code as u8,
        gap_ms: None,
        is_open: false,
        hint: Some("fix it".to_owned()),
        logs: vec!["PASSWORD=s3cret".to_owned()],
    }
}

/// The end of a rolling update that leaves a failed batch at the old version.
fn in_part() -> Event {
    Event::Failed {
        message: "2 of 4 batches failed".to_owned(),
        code: Outcome::Failed as u8,
        gap_ms: None,
        is_open: true,
        hint: None,
        logs: Vec::new(),
    }
}

fn finished() -> Event {
    Event::Finished {
        revision: 2,
        replicas: 1,
        image: "app:v2".to_owned(),
        replaces: Some("app:v1".to_owned()),
        cutover_ms: None,
        live_ms: None,
        gap_ms: None,
        total_ms: 1,
        phases: BTreeMap::new(),
    }
}

fn paused() -> Event {
    Event::Paused {
        message: "paused at step 1".to_owned(),
        code: Outcome::Paused as u8,
        hint: None,
    }
}

fn step(step: &'static str) -> Event {
    Event::StepStarted {
        step,
        replicas: Vec::new(),
        limit_ms: None,
        batch: None,
    }
}

#[test]
fn each_end_has_its_kind_and_what_touched_nothing_has_none() {
    use Outcome as O;
    let settled = |forward| Event::Settled {
        forward,
        revision: Some(2),
        image: Some("app:v2".to_owned()),
    };
    for (events, kind) in [
        (vec![finished()], Some(Kind::Success)),
        (vec![settled(true)], Some(Kind::Success)),
        (vec![settled(false)], Some(Kind::Rollback)),
        (vec![finished(), finished()], Some(Kind::Rollback)),
        (vec![step("ready"), failed(O::Failed)], Some(Kind::Failure)),
        (
            vec![step("cutover"), failed(O::Failed)],
            Some(Kind::Rollback),
        ),
        (
            vec![step("shift"), failed(O::Interrupted)],
            Some(Kind::Rollback),
        ),
        (
            vec![step("cutover"), failed(O::NeedsPerson)],
            Some(Kind::NeedsAPerson),
        ),
        (vec![step("shift"), in_part()], Some(Kind::NeedsAPerson)),
        (vec![step("shift"), paused()], Some(Kind::Paused)),
        (vec![failed(O::Interrupted)], None),
        (vec![failed(O::Refused)], None),
        (vec![failed(O::Locked)], None),
        (vec![step("cutover")], None),
    ] {
        let mut seen = Seen::default();
        let scope = of_rollout("r1");
        let kinds: Vec<_> = events.iter().map(|own| seen.follow(&scope, own)).collect();
        assert_eq!(kinds.last(), Some(&kind), "{events:?}");
    }
}

fn of_rollout(id: &str) -> Scope {
    Scope {
        rollout: Some(RolloutId(id.to_owned())),
        ..scope()
    }
}

#[test]
fn traffic_that_an_earlier_rollout_has_moved_does_not_make_the_failure_of_the_next_a_rollback() {
    let mut seen = Seen::default();
    seen.follow(&of_rollout("r1"), &step("cutover"));
    let failed = failed(Outcome::Failed);
    for scope in [scope(), of_rollout("r2")] {
        assert_eq!(seen.follow(&scope, &failed), Some(Kind::Failure));
    }
    assert_eq!(
        seen.follow(&of_rollout("r1"), &failed),
        Some(Kind::Rollback)
    );
}

#[test]
fn one_body_is_the_event_without_logs_and_a_text_for_slack_and_for_discord() {
    let event = failed(Outcome::Failed);
    let at = SystemTime::UNIX_EPOCH;
    let message = Message::of(Kind::Failure, (at, &scope(), &event));
    let body: Value = serde_json::from_str(&message.json).unwrap();
    let wanted = json!({
        "kind": "failure",
        "text": "shop/web: failed\nit &lt;died&gt; &amp; is gone\nnext: fix it",
        "content": "shop/web: failed\nit <died> & is gone\nnext: fix it",
        "allowed_mentions": {"parse": []},
        "event": "failed",
        "message": "it <died> & is gone",
        "code": 1,
        "hint": "fix it",
        "logs": [],
        "time": "1970-01-01T00:00:00.000Z",
        "project": "shop",
        "service": "web",
    });
    assert_eq!(body, wanted);
    let message = Message::of(Kind::Success, (at, &scope(), &finished()));
    assert_eq!(message.title, "shop/web: rolled out");
    assert_eq!(message.text, "app:v1 → app:v2, revision 2");
}

#[test]
fn secrets_are_read_from_files_that_begin_at_the_directory_and_a_bad_file_is_named() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("url"), "https://h/s3cret\n").unwrap();
    fs::write(place.path().join("bad"), "s3cret\n").unwrap();
    let open = |text: &str| Receiver::open(&text.parse().unwrap(), place.path());
    let receiver = open(r#"{"url-file": "url", "token-file": "bad"}"#).unwrap();
    assert_eq!(receiver.address.url.path(), "/s3cret");
    assert_eq!(receiver.token.as_deref(), Some("s3cret"));
    for (text, said) in [
        (
            r#"{"url-file": "bad"}"#,
            "/bad of a notification: it is an address without a scheme",
        ),
        (
            r#"{"url-file": "none"}"#,
            "/none of a notification: No such file",
        ),
        (
            r#"{"url": "https://h", "token-file": "/dev/null"}"#,
            "its first line is empty",
        ),
    ] {
        let message = open(text).err().unwrap().message;
        assert!(
            message.contains(said) && !message.contains("s3cret"),
            "{message}"
        );
    }
}

/// The notices after an end that is notified at these addresses.
async fn notices(addresses: &[String]) -> Vec<String> {
    let receiver = |text: &String| Receiver::open(&text.parse().unwrap(), Path::new("/")).unwrap();
    let receivers = addresses.iter().map(receiver).collect();
    let mut sink = Notifications::new(BTreeMap::from([("web".to_owned(), receivers)]));
    let of_another = Scope {
        service: Some("api".to_owned()),
        ..Scope::default()
    };
    for scope in [scope(), of_another, Scope::default()] {
        sink.event(SystemTime::UNIX_EPOCH, &scope, &failed(Outcome::Failed));
    }
    sink.end().await
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    body.len() == length.unwrap().parse::<usize>().unwrap()
}

/// The requests that come, each answered with this status.
fn answering(listener: TcpListener, statuses: &'static [&'static str]) -> JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let mut requests = Vec::new();
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            while !is_whole(&request) {
                let mut bytes = [0; 4096];
                let read = stream.read(&mut bytes).await.unwrap();
                request += std::str::from_utf8(&bytes[..read]).unwrap();
            }
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            requests.push(request);
        }
        requests
    })
}

#[tokio::test]
async fn an_end_is_sent_once_to_each_address_and_a_second_time_where_that_fails() {
    let ((hook, at_hook), (ntfy, at_ntfy)) = (listener().await, listener().await);
    let (hook, ntfy) = (
        answering(hook, &["503 No", "204 Yes"]),
        answering(ntfy, &["200 OK"]),
    );
    let addresses = [
        format!("http://{at_hook}/a/b"),
        format!("ntfy://u:p@{at_ntfy}/topic"),
    ];
    assert_eq!(notices(&addresses).await, [""; 0]);
    let hook = hook.await.unwrap();
    assert_eq!(hook[0], hook[1]);
    assert!(hook[0].starts_with("POST /a/b HTTP/1.1\r\n"), "{}", hook[0]);
    assert!(
        hook[0].contains("\r\n\r\n{\"kind\":\"failure\","),
        "{}",
        hook[0]
    );
    let ntfy = &ntfy.await.unwrap()[0];
    for part in [
        "POST /topic HTTP/1.1\r\n",
        "title: shop/web: failed\r\n",
        "priority: high\r\n",
        "tags: x\r\n",
        "authorization: Basic dTpw\r\n",
        "\r\n\r\nit <died> & is gone\nnext: fix it",
    ] {
        assert!(ntfy.contains(part), "{part}: {ntfy}");
    }
}

#[tokio::test(start_paused = true)]
async fn servers_that_hang_are_waited_for_five_seconds_together_and_are_a_notice_each() {
    let ((_first, first), (_second, second)) = (listener().await, listener().await);
    let began = Instant::now();
    let all = [first.clone(), first.clone(), second.clone()];
    let notices = notices(&all.map(|address| format!("http://{address}/s3cret"))).await;
    assert!(began.elapsed() < PATIENCE + Duration::from_millis(100));
    let late = |address| format!("the notification to http://{address} failed: no answer in time");
    assert_eq!(notices, [late(first), late(second)]);
}

#[tokio::test]
async fn the_end_of_the_events_says_what_was_not_sent() {
    let (refuses, address) = listener().await;
    drop(refuses);
    let seen = tempfile::NamedTempFile::new().unwrap();
    let log = super::super::json::Json::new(seen.reopen().unwrap());
    let events = Events::new(vec![Box::new(log)]);
    let receiver = Receiver::open(
        &format!("http://{address}").parse().unwrap(),
        Path::new("/"),
    );
    let receivers = BTreeMap::from([("web".to_owned(), vec![receiver.unwrap()])]);
    events.add(Box::new(Notifications::new(receivers)));
    events.scoped(scope()).emit(finished());
    events.end().await;
    let lines = fs::read_to_string(seen.path()).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "notice");
    let wanted =
        format!("the notification to http://{address} failed: Connection refused (os error 111)");
    assert_eq!(last["text"], wanted);
}
