//! Whether the process can do its work, for whoever asks: an orchestrator, and any stranger as often as he likes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, web};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::timeout;

use super::{Api, Problem};

/// How long a store may take to be called ready; whoever asks does so again soon.
const PATIENCE: Duration = Duration::from_secs(2);

/// That the store can be written, or why not.
type Answer = Result<(), &'static str>;

/// An answer that is on its way. Finding it out is a write of the store, so all who ask meanwhile get the same one.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<Option<Shared<BoxFuture<'static, Answer>>>>);

impl Readiness {
    /// The answer that is on its way, or else a new one, which comes even if nobody waits for it.
    fn ask(
        &self,
        find_out: impl Future<Output = Answer> + Send + 'static,
    ) -> Shared<BoxFuture<'static, Answer>> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = asked.take().filter(|known| known.peek().is_none()) {
            return asked.insert(known).clone();
        }
        let found_out = tokio::spawn(timeout(PATIENCE, find_out));
        let answer = async move {
            match found_out.await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err("the store does not answer in time"),
                Err(_) => Err("the store was not asked"),
            }
        };
        asked.insert(answer.boxed().shared()).clone()
    }
}

pub(super) async fn readyz(api: web::Data<Api>) -> HttpResponse {
    let store = api.store.clone();
    let answer = api.readiness.ask(async move {
        let asked = store.ready().await.inspect_err(|error| tracing::warn!(%error, "not ready"));
        asked.map_err(|_| "the store does not answer")
    });
    match answer.await {
        Ok(()) => HttpResponse::Ok().content_type(ContentType::plaintext()).body("ok\n"),
        Err(why) => Problem::unavailable(why).response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn however_many_ask_at_once_it_is_found_out_once() {
        let (readiness, found_out) = (Readiness::default(), Arc::new(AtomicUsize::new(0)));
        let ask = || {
            let found_out = Arc::clone(&found_out);
            readiness.ask(async move {
                tokio::task::yield_now().await;
                if found_out.fetch_add(1, Ordering::Relaxed) == 0 { Ok(()) } else { Err("it is down") }
            })
        };
        assert_eq!(join_all((0..100).map(|_| ask())).await, [Ok(()); 100]);
        assert_eq!(
            join_all((0..100).map(|_| ask())).await,
            [Err("it is down"); 100],
            "what was is not told again"
        );
        assert_eq!(found_out.load(Ordering::Relaxed), 2);
    }
}
