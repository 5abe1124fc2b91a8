//! The same on gRPC, in metadata.

use nuke_tests::Repository;

use super::call::{call, client, connect, framed, identity_message};
use super::host;

#[test]
fn metadata_ask_and_tell_what_headers_do() {
    let repository =
        Repository::new().model("identity_fp32", "1", "identity_fp32").model_yaml("cache: {ttl: 1h}\n");
    let host = host(repository);
    client(async {
        let (sender, _connection) = connect(host.address()).await;
        let message = framed(&identity_message(2));
        let ask = |control: &'static str| {
            let (sender, message) = (sender.clone(), message.clone());
            async move {
                let headers = [("cache-control", control)];
                let headers = if control.is_empty() { &headers[..0] } else { &headers };
                call(&sender, "ModelInfer", headers, message).await
            }
        };
        let told = |ended: &super::call::Ended| ended.headers["cache-status"].to_str().unwrap().to_owned();
        let absent = ask("only-if-cached").await;
        assert_eq!((absent.code, told(&absent).as_str()), (9, "nuke; detail=only-if-cached"), "{absent:?}");
        assert_eq!(absent.headers["nuke-code"], "not_cached");
        let first = ask("").await;
        assert_eq!((first.code, told(&first).as_str()), (0, "nuke; fwd=miss; stored"));
        let second = ask("").await;
        assert!(told(&second).starts_with("nuke; hit; ttl="), "{second:?}");
        assert!(second.headers.contains_key("age"));
        assert_eq!(first.messages, second.messages);
        assert_eq!(told(&ask("no-store").await), "nuke; fwd=bypass");
        assert_eq!(told(&ask("no-cache").await), "nuke; fwd=request; stored");
    });
}
