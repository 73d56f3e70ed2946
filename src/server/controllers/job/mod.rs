//! Jobs: pods that run to their end, as many as are asked for; and their removal some time after.

mod tally;
mod verdict;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod as FullPod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::kit::informer::{Change, Informer, Key};
use super::kit::meta::{self, Matcher};
use super::kit::pod::Pod;
use super::kit::podcontrol::{self, Expectations};
use super::kit::{Context, Error, Next, Queue, ignore_not_found, patch};
use crate::supervisor::TaskError;
use tally::{FINALIZER, INDEX, Tally};

const WORKERS: usize = 5;
/// Pods created or deleted in one go.
const BURST: usize = 500;
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const MAX_BACKOFF: Duration = Duration::from_secs(600);

struct Jobs {
    cx: Context,
    jobs: Arc<Informer<Job>>,
    pods: Arc<Informer<Pod>>,
    expectations: Expectations,
    /// Failures in a row, and when the last was seen.
    failures: Mutex<HashMap<Key, (u32, Instant)>>,
    queue: Queue<Key>,
}

/// Runs the job controller.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let this = Arc::new(Jobs {
        jobs: cx.informers.get(),
        pods: cx.informers.get(),
        expectations: Expectations::default(),
        failures: Mutex::default(),
        queue: Queue::new("job"),
        cx,
    });
    let (a, b) = (Arc::clone(&this), Arc::clone(&this));
    let _jobs = this.jobs.subscribe(move |change| {
        let key = Key::of(change.latest().as_ref());
        if change.deleted() {
            a.expectations.forget(&key);
            a.failures.lock().remove(&key);
        }
        a.queue.add(key);
    });
    let _pods = this.pods.subscribe(move |change| b.pod_changed(change));
    this.jobs.synced().await;
    this.pods.synced().await;
    this.queue.run(WORKERS, stop, |key| this.reconcile(key)).await;
    Ok(())
}

impl Jobs {
    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        let Some(owner) = meta::controller_of(&pod.metadata).filter(|o| o.kind == "Job") else { return };
        let key = Key::new(meta::namespace(&pod.metadata), &owner.name);
        if self.jobs.get(&key).is_some_and(|j| meta::uid(&j.metadata) == owner.uid) {
            self.expectations.observe(&key, change);
        }
        // Also of a job that is gone: its pods must lose their finalizers.
        self.queue.add(key);
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(job) = self.jobs.get(&key).filter(|j| j.metadata.deletion_timestamp.is_none()) else {
            self.release_orphans(&key).await?;
            return Ok(Next::Done);
        };
        if job
            .spec
            .as_ref()
            .and_then(|s| s.managed_by.as_deref())
            .is_some_and(|m| m != "kubernetes.io/job-controller")
        {
            return Ok(Next::Done);
        }
        if verdict::is_finished(&job) {
            let pods = self.pods.controlled_by(meta::uid(&job.metadata));
            self.release(&pods.into_iter().filter(|p| tally::is_tracked(p)).collect::<Vec<_>>()).await?;
            return Ok(Next::Done);
        }
        let matcher = Matcher::new(job.spec.as_ref().and_then(|s| s.selector.as_ref()));
        let pods = podcontrol::claim(&self.cx, job.as_ref(), &matcher).await?;
        let tally = tally::count(&job, &pods);
        let end = verdict::end(&job, &tally);
        // What has ended is noted before it may vanish, and counted before anything is decided on it.
        let noted = self.write_status(&key, &job, tally::write(&job, &tally, false)).await?;
        self.release(&tally.to_release).await?;
        self.note_failures(&key, &tally);
        let managed = match &end {
            Some(_) => self.delete(&key, &job, &tally.active).await.map(|()| Next::Done),
            None if self.expectations.satisfied(&key) => self.manage(&key, &job, &tally).await,
            None => Ok(Next::Done),
        };
        let mut status = tally::write(&noted, &tally, true);
        self.advance(&job, &tally, end.as_ref(), &mut status);
        self.write_status(&key, &noted, status).await?;
        let next = managed?;
        Ok(match (next, verdict::deadline(&job)) {
            (Next::After(a), Some(b)) => Next::After(a.min(b)),
            (Next::Done, Some(b)) if end.is_none() => Next::After(b),
            (next, _) => next,
        })
    }

    async fn write_status(&self, key: &Key, job: &Arc<Job>, status: JobStatus) -> Result<Arc<Job>, Error> {
        let mut wanted = Job::clone(job);
        wanted.status = Some(status);
        let api: Api<Job> = Api::namespaced(self.cx.client.clone(), &key.namespace);
        Ok(patch::write(&api, job.as_ref(), &wanted, Some("status"))
            .await?
            .map_or_else(|| Arc::clone(job), Arc::new))
    }

    /// Conditions, start and end.
    fn advance(&self, job: &Job, tally: &Tally, end: Option<&verdict::End>, status: &mut JobStatus) {
        let suspended = verdict::is_suspended(job);
        if suspended && end.is_none() {
            if !verdict::has(job, "Suspended") {
                verdict::set(status, "Suspended", "True", "JobSuspended", "Job suspended");
                self.cx.recorder.normal(job, "Suspended", "Job suspended");
            }
            status.start_time = None;
            return;
        }
        if verdict::has(job, "Suspended") && end.is_none() {
            verdict::set(status, "Suspended", "False", "JobResumed", "Job resumed");
            self.cx.recorder.normal(job, "Resumed", "Job resumed");
        }
        if status.start_time.is_none() {
            status.start_time = Some(meta::now());
        }
        let Some(end) = end else { return };
        let (interim, last) =
            if end.complete { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") };
        verdict::set(status, interim, "True", end.reason, end.message);
        // The last word waits for the last pod.
        if tally.active.is_empty() && tally.terminating == 0 {
            verdict::set(status, last, "True", end.reason, end.message);
            if end.complete {
                status.completion_time = Some(meta::now());
                self.cx.recorder.normal(job, "Completed", "Job completed");
            } else {
                self.cx.recorder.warning(job, end.reason, end.message);
            }
            status.ready = Some(0);
        }
    }

    fn note_failures(&self, key: &Key, tally: &Tally) {
        let mut failures = self.failures.lock();
        if !tally.new_succeeded.is_empty() {
            failures.remove(key);
        } else if !tally.new_failed.is_empty() {
            let entry = failures.entry(key.clone()).or_insert((0, Instant::now()));
            entry.0 += u32::try_from(tally.new_failed.len()).unwrap_or(u32::MAX);
            entry.1 = Instant::now();
        }
    }

    /// How long to wait after failures before the next pod.
    fn backoff(&self, key: &Key) -> Duration {
        let failures = self.failures.lock();
        let Some((count, last)) = failures.get(key) else { return Duration::ZERO };
        let delay = FIRST_BACKOFF.saturating_mul(1 << count.saturating_sub(1).min(10)).min(MAX_BACKOFF);
        delay.saturating_sub(last.elapsed())
    }

    async fn manage(&self, key: &Key, job: &Arc<Job>, tally: &Tally) -> Result<Next, Error> {
        let wanted = verdict::wanted_active(job, tally);
        let surplus = verdict::surplus(job, tally, wanted);
        if !surplus.is_empty() {
            return self.delete(key, job, &surplus).await.map(|()| Next::Done);
        }
        let missing = wanted.saturating_sub(tally.active.len()).min(BURST);
        if missing == 0 {
            return Ok(Next::Done);
        }
        let wait = self.backoff(key);
        if !wait.is_zero() {
            return Ok(Next::After(wait));
        }
        let indexes: Vec<Option<i32>> = if tally::is_indexed(job) {
            verdict::free_indexes(job, tally, missing).into_iter().map(Some).collect()
        } else {
            vec![None; missing]
        };
        self.expectations.expect_creations(key, indexes.len());
        let (made, result) = podcontrol::slow_start(indexes.len(), |i| {
            let pod = build(job, &key.namespace, indexes[i]);
            async move { podcontrol::create(&self.cx, job.as_ref(), &pod).await.map(|_| ()) }
        })
        .await;
        self.expectations.created(key, indexes.len() - made);
        match result {
            Err(e) if e.is_namespace_terminating() => Ok(Next::Done),
            other => other.map(|()| Next::Done),
        }
    }

    async fn delete(&self, key: &Key, job: &Arc<Job>, pods: &[Arc<Pod>]) -> Result<(), Error> {
        self.expectations.expect_deletions(key, pods.iter().map(|p| meta::uid(&p.metadata).to_owned()));
        let mut deletions = Vec::with_capacity(pods.len());
        for pod in pods {
            deletions.push(async move {
                let result = podcontrol::delete(&self.cx, job.as_ref(), pod).await;
                if result.is_err() {
                    self.expectations.deleted(key, meta::uid(&pod.metadata));
                }
                ignore_not_found(result)
            });
        }
        join_all(deletions).await.into_iter().collect()
    }

    /// Takes the finalizer off pods.
    async fn release(&self, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let mut releases = Vec::with_capacity(pods.len());
        for pod in pods {
            let finalizers: Vec<_> =
                pod.metadata.finalizers.iter().flatten().filter(|f| *f != FINALIZER).collect();
            let body = json!({"metadata": {"uid": pod.metadata.uid, "finalizers": finalizers}});
            let api: Api<Pod> = Api::namespaced(self.cx.client.clone(), meta::namespace(&pod.metadata));
            releases.push(async move {
                let name = meta::name(&pod.metadata);
                let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(&body)).await;
                ignore_not_found(patched.map(|_| ()).map_err(Error::api("releasing a counted pod")))
            });
        }
        let released: Result<(), Error> = join_all(releases).await.into_iter().collect();
        released?;
        // A pod that the cache still shows with its finalizer would be counted again.
        let done = |p: &Arc<Pod>| {
            let now = self.pods.get(&Key::of(p.as_ref()));
            now.is_none_or(|n| n.metadata.uid != p.metadata.uid || !tally::is_tracked(&n))
        };
        self.pods.caught_up(|_| pods.iter().all(done)).await;
        Ok(())
    }

    /// Pods of a job that is gone lose their finalizers, so that they can go too.
    async fn release_orphans(&self, key: &Key) -> Result<(), Error> {
        let left: Vec<_> = self
            .pods
            .in_namespace(&key.namespace)
            .into_iter()
            .filter(|p| {
                let owner = meta::controller_of(&p.metadata);
                tally::is_tracked(p) && owner.is_some_and(|o| o.kind == "Job" && o.name == key.name)
            })
            .collect();
        self.release(&left).await
    }
}

/// A pod of a job, of an index if the job has indexes.
fn build(job: &Job, namespace: &str, index: Option<i32>) -> FullPod {
    let template = job.spec.as_ref().map(|s| &s.template);
    let name = meta::name(&job.metadata);
    let mut pod =
        podcontrol::from_template(template, namespace, &format!("{name}-"), meta::controller_ref(job));
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    let Some(index) = index else { return pod };
    pod.metadata.generate_name = Some(format!("{name}-{index}-"));
    pod.metadata.annotations.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    let spec = pod.spec.get_or_insert_default();
    if spec.hostname.is_none() {
        spec.hostname = Some(format!("{name}-{index}"));
    }
    let from = EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{INDEX}']"),
            api_version: None,
        }),
        ..Default::default()
    };
    let variable =
        EnvVar { name: "JOB_COMPLETION_INDEX".to_owned(), value_from: Some(from), ..Default::default() };
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let env = container.env.get_or_insert_default();
        if !env.iter().any(|e| e.name == variable.name) {
            env.push(variable.clone());
        }
    }
    pod
}

/// Runs the controller that removes finished jobs after their time to live.
pub async fn run_ttl(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let jobs = cx.informers.get::<Job>();
    let queue: Queue<Key> = Queue::new("ttl-after-finished");
    let adds = queue.clone();
    let _jobs = jobs.subscribe(move |change| {
        if change.new.as_ref().is_some_and(|j| time_to_live(j).is_some()) {
            adds.add(Key::of(change.latest().as_ref()));
        }
    });
    jobs.synced().await;
    let reconcile = |key: Key| {
        let (jobs, client) = (Arc::clone(&jobs), cx.client.clone());
        async move {
            let Some(job) = jobs.get(&key) else { return Ok(Next::Done) };
            match time_to_live(&job) {
                None => Ok(Next::Done),
                Some(left) if !left.is_zero() => Ok(Next::After(left)),
                Some(_) => {
                    let api: Api<Job> = Api::namespaced(client, &key.namespace);
                    let params = DeleteParams {
                        preconditions: Some(Preconditions {
                            uid: job.metadata.uid.clone(),
                            resource_version: None,
                        }),
                        ..DeleteParams::foreground()
                    };
                    let deleted = api.delete(&key.name, &params).await;
                    ignore_not_found(deleted.map(|_| ()).map_err(Error::api("removing a finished job")))?;
                    Ok(Next::Done)
                }
            }
        }
    };
    queue.run(WORKERS, stop, reconcile).await;
    Ok(())
}

/// How long a finished job still has.
fn time_to_live(job: &Job) -> Option<Duration> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let end = conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    let passed = meta::since(end.last_transition_time.as_ref()?);
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()).saturating_sub(passed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_indexed_pod_knows_its_index() {
        let job: Job = serde_json::from_value(json!({"metadata": {"name": "j", "uid": "u"}, "spec": {
            "completionMode": "Indexed", "completions": 2,
            "template": {"spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}}}))
        .expect("a job");
        let pod = build(&job, "n", Some(1));
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("j-1-"));
        let spec = pod.spec.expect("a spec");
        assert_eq!(spec.hostname.as_deref(), Some("j-1"));
        assert_eq!(spec.containers[0].env.as_ref().map(|e| e[0].name.as_str()), Some("JOB_COMPLETION_INDEX"));
        assert_eq!(pod.metadata.finalizers, Some(vec![FINALIZER.to_owned()]));
        assert!(build(&job, "n", None).metadata.annotations.is_none());
    }

    #[test]
    fn a_finished_job_lives_for_its_time() {
        let job = |end: &str, ttl: i32| -> Job {
            serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
                "status": {"conditions": [{"type": end, "status": "True", "lastTransitionTime": meta::now()}]}}))
            .expect("a job")
        };
        assert_eq!(time_to_live(&job("Suspended", 10)), None);
        assert_eq!(time_to_live(&job("Complete", 0)), Some(Duration::ZERO));
        assert!(time_to_live(&job("Failed", 100)).is_some_and(|d| d > Duration::from_secs(95)));
    }
}
