//! `connect`: a stream of bytes to a port in the namespace.

use std::process::Stdio;

use testbed::{Replica, binary};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

use super::SECOND;

fn connect(replica: &Replica, address: &str) -> Child {
    Command::new("nsenter")
        .args(["--net", "--target", &replica.pid])
        .arg(binary())
        .args(["namespace", "connect", address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

#[tokio::test]
async fn it_ends_with_the_connection_though_its_input_stays_open() {
    let replica = Replica::start(&[]).await;
    let mut connect = connect(&replica, "127.0.0.1:80");
    let mut input = connect.stdin.take().unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    input.write_all(request).await.unwrap();
    let mut answer = String::new();
    let mut output = connect.stdout.take().unwrap();
    let read = timeout(10 * SECOND, output.read_to_string(&mut answer));
    read.await.expect("it ends").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(connect.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_port_that_is_closed_is_a_line_on_standard_error() {
    let replica = Replica::start(&[]).await;
    let output = connect(&replica, "127.0.0.1:9").wait_with_output().await;
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(error, "Connection refused (os error 111)\n");
}
