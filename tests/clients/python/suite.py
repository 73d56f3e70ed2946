"""The Python client (`kubernetes` on PyPI) against a cluster: what its users do, asserted on.

KUBECONFIG and the namespace NS come from the environment. Every function that begins with `test_` is run; the
first assertion that fails ends the program.
"""

import json
import os
import threading
import time

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

NS = os.environ["NS"]
config.load_kube_config()
core = client.CoreV1Api()
apps = client.AppsV1Api()


def fails(code, call, *args, **kwargs):
    """The Status of a call that must fail with this code."""
    try:
        call(*args, **kwargs)
    except ApiException as error:
        assert error.status == code, (error.status, error.body)
        status = json.loads(error.body)
        assert status["kind"] == "Status" and status["status"] == "Failure", status
        assert status["code"] == code, status
        return status
    raise AssertionError(f"{call.__name__} did not fail")


def plain(answer):
    """An answer as it was sent: versions of the client differ in what they make of it."""
    return client.ApiClient().sanitize_for_serialization(answer)


def config_map(name, data=None, labels=None):
    metadata = client.V1ObjectMeta(name=name, labels=labels)
    return client.V1ConfigMap(metadata=metadata, data=data)


def pod(name, command, **spec):
    container = client.V1Container(name="main", image="busybox:1.36", command=command)
    spec = client.V1PodSpec(containers=[container], termination_grace_period_seconds=0, **spec)
    return client.V1Pod(metadata=client.V1ObjectMeta(name=name, labels={"app": name}), spec=spec)


def wait_phase(name, phase):
    selector = f"metadata.name={name}"
    for event in watch.Watch().stream(core.list_namespaced_pod, NS, field_selector=selector, timeout_seconds=60):
        if event["object"].status.phase == phase:
            return event["object"]
    raise AssertionError(f"{name} never was {phase}")


def test_version_and_discovery():
    assert client.VersionApi().get_code().git_version.startswith("v1.36.")
    groups = [g.name for g in client.ApisApi().get_api_versions().groups]
    assert {"apps", "batch", "rbac.authorization.k8s.io"} <= set(groups), groups
    names = [r.name for r in core.get_api_resources().resources]
    assert "pods" in names and "pods/log" in names and "services/proxy" in names, names


def test_create_read_replace_delete():
    made = core.create_namespaced_config_map(NS, config_map("a", {"x": "1"}))
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo is not None
    made.data["x"] = "2"
    replaced = core.replace_namespaced_config_map("a", NS, made)
    assert replaced.data == {"x": "2"} and replaced.metadata.resource_version != made.metadata.resource_version
    status = fails(409, core.replace_namespaced_config_map, "a", NS, made)
    assert status["reason"] == "Conflict" and "the object has been modified" in status["message"], status
    status = fails(409, core.create_namespaced_config_map, NS, config_map("a"))
    assert status["reason"] == "AlreadyExists" and status["details"] == {"name": "a", "kind": "configmaps"}, status
    status = fails(404, core.read_namespaced_config_map, "none", NS)
    assert status["message"] == 'configmaps "none" not found', status
    status = fails(422, core.create_namespaced_config_map, NS, config_map("A_B"))
    assert status["reason"] == "Invalid" and status["details"]["causes"][0]["field"] == "metadata.name", status
    options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="other"))
    assert fails(409, core.delete_namespaced_config_map, "a", NS, body=options)["reason"] == "Conflict"
    deleted = plain(core.delete_namespaced_config_map("a", NS))
    assert deleted["status"] == "Success" and deleted["details"]["uid"] == made.metadata.uid, deleted


def test_patches():
    body = {"spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {
        "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
            {"name": "one", "image": "one:1"}, {"name": "two", "image": "two:1"}]}}},
        "metadata": {"name": "d"}, "apiVersion": "apps/v1", "kind": "Deployment"}
    apps.create_namespaced_deployment(NS, body, field_manager="maker")
    # Strategic merge is the client's default for a dictionary: lists merge by key.
    new = {"spec": {"template": {"spec": {"containers": [{"name": "two", "image": "two:2"}]}}}}
    patched = apps.patch_namespaced_deployment("d", NS, new)
    assert sorted(c.image for c in patched.spec.template.spec.containers) == ["one:1", "two:2"], patched
    # A list is a JSON patch.
    operations = [{"op": "replace", "path": "/spec/replicas", "value": 2}, {"op": "test", "path": "/kind", "value": "Deployment"}]
    assert apps.patch_namespaced_deployment("d", NS, operations).spec.replicas == 2
    status = fails(422, apps.patch_namespaced_deployment, "d", NS, [{"op": "remove", "path": "/spec/none"}])
    assert status["reason"] == "Invalid", status
    merged = apps.patch_namespaced_deployment(
        "d", NS, {"metadata": {"annotations": {"n": "o"}}, "spec": {"minReadySeconds": 3}}, _content_type="application/merge-patch+json")
    assert merged.spec.min_ready_seconds == 3 and merged.metadata.annotations["n"] == "o"
    applied = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 7}}
    apply = dict(_content_type="application/apply-patch+yaml", field_manager="me")
    status = fails(409, apps.patch_namespaced_deployment, "d", NS, applied, **apply)
    assert status["details"]["causes"][0]["reason"] == "FieldManagerConflict", status
    forced = apps.patch_namespaced_deployment("d", NS, applied, force=True, **apply)
    assert forced.spec.replicas == 7
    owners = {(m.manager, m.operation) for m in forced.metadata.managed_fields}
    assert {("me", "Apply"), ("maker", "Update")} <= owners, owners
    scale = apps.patch_namespaced_deployment_scale("d", NS, {"spec": {"replicas": 1}})
    assert scale.kind == "Scale" and scale.spec.replicas == 1 and scale.status.selector == "a=b", scale
    status = fails(422, apps.patch_namespaced_deployment, "d", NS, {"spec": {"replicsa": 1}}, field_validation="Strict")
    assert 'strict decoding error: unknown field "spec.replicsa"' in status["message"], status
    apps.delete_namespaced_deployment("d", NS, propagation_policy="Foreground")


def test_pages():
    for n in range(7):
        core.create_namespaced_config_map(NS, config_map(f"page-{n}", labels={"page": "yes"}))
    first = core.list_namespaced_config_map(NS, label_selector="page=yes", limit=3)
    assert len(first.items) == 3 and first.metadata._continue, first.metadata
    assert first.metadata.remaining_item_count is None, "a selector makes the rest unknown"
    # What comes and goes after the first page does not show in the others.
    core.delete_namespaced_config_map("page-6", NS)
    core.create_namespaced_config_map(NS, config_map("page-5a", labels={"page": "yes"}))
    names, token = [i.metadata.name for i in first.items], first.metadata._continue
    while token:
        page = core.list_namespaced_config_map(NS, label_selector="page=yes", limit=3, _continue=token)
        assert page.metadata.resource_version == first.metadata.resource_version
        names += [i.metadata.name for i in page.items]
        token = page.metadata._continue
    assert names == [f"page-{n}" for n in range(7)], names
    whole = core.list_namespaced_config_map(NS, limit=1)
    rest = core.list_namespaced_config_map(NS, resource_version=whole.metadata.resource_version,
                                           resource_version_match="Exact")
    assert whole.metadata.remaining_item_count == len(rest.items) - 1
    fails(400, core.list_namespaced_config_map, NS, _continue="nonsense")
    fails(400, core.list_namespaced_config_map, NS, label_selector="a in (")
    fails(400, core.list_namespaced_config_map, NS, field_selector="data.x=1")
    gone = core.delete_collection_namespaced_config_map(NS, label_selector="page=yes")
    assert gone is not None
    assert core.list_namespaced_config_map(NS, label_selector="page").items == []


def test_watch():
    start = core.list_namespaced_config_map(NS).metadata.resource_version

    def work():
        core.create_namespaced_config_map(NS, config_map("w", {"n": "0"}, {"watched": "yes"}))
        core.patch_namespaced_config_map("w", NS, {"data": {"n": "1"}})
        core.patch_namespaced_config_map("w", NS, {"metadata": {"labels": {"watched": "no"}}})
        core.patch_namespaced_config_map("w", NS, {"metadata": {"labels": {"watched": "yes"}}})
        core.delete_namespaced_config_map("w", NS)

    thread = threading.Thread(target=work)
    thread.start()
    seen = []
    for event in watch.Watch().stream(core.list_namespaced_config_map, NS, label_selector="watched=yes",
                                      resource_version=start, timeout_seconds=30):
        seen.append(event["type"])
        if len(seen) == 5:
            break
    thread.join()
    assert seen == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"], seen
    begun = time.monotonic()
    assert list(watch.Watch().stream(core.list_namespaced_config_map, NS, label_selector="none", timeout_seconds=1)) == []
    assert 0.5 < time.monotonic() - begun < 10


def test_pod_logs_exec_and_port_forward():
    core.create_namespaced_pod(NS, pod("p", ["sh", "-c", "echo one; echo two; httpd -p 8080 -h /www; sleep 10000"]))
    wait_phase("p", "Running")
    deadline = time.monotonic() + 30
    while core.read_namespaced_pod_log("p", NS) != "one\ntwo\n":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert core.read_namespaced_pod_log("p", NS, tail_lines=1) == "two\n"
    lines = watch.Watch().stream(core.read_namespaced_pod_log, "p", NS)
    assert next(lines) == "one" and next(lines) == "two"
    command = ["sh", "-c", "echo out; echo err >&2"]
    out = stream(core.connect_get_namespaced_pod_exec, "p", NS, command=command, stderr=True, stdin=False, stdout=True, tty=False)
    assert sorted(out.split()) == ["err", "out"], out
    session = stream(core.connect_get_namespaced_pod_exec, "p", NS, command=["sh"], stderr=True, stdin=True,
                     stdout=True, tty=False, _preload_content=False)
    session.write_stdin("echo hello; exit 7\n")
    session.run_forever(timeout=30)
    assert session.read_stdout() == "hello\n" and session.returncode == 7, session.returncode
    forward = portforward(core.connect_get_namespaced_pod_portforward, "p", NS, ports="8080")
    socket = forward.socket(8080)
    socket.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
    answer = b""
    while not answer.endswith(b"it works\n"):
        part = socket.recv(4096)
        assert part, answer
        answer += part
    status = fails(400, core.read_namespaced_pod_log, "p", NS, container="none")
    assert "none" in status["message"], status
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": NS},
            "deleteOptions": {"gracePeriodSeconds": 0}}
    evicted = plain(core.create_namespaced_pod_eviction("p", NS, body))
    assert evicted["kind"] == "Status", evicted


def test_dynamic_client():
    dyn = dynamic.DynamicClient(client.ApiClient())
    deployments = dyn.resources.get(api_version="apps/v1", kind="Deployment")
    assert deployments.name == "deployments" and "deploy" in deployments.short_names
    maps = dyn.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dyn"}, "data": {"a": "b"}}
    made = maps.create(body=body, namespace=NS)
    assert made.data.a == "b"
    applied = maps.server_side_apply(body=body | {"data": {"c": "d"}}, namespace=NS, field_manager="dyn", name="dyn")
    assert applied.data.to_dict() == {"a": "b", "c": "d"}, applied
    assert maps.get(name="dyn", namespace=NS).data.c == "d"
    assert [i.metadata.name for i in maps.get(namespace=NS, field_selector="metadata.name=dyn").items] == ["dyn"]
    maps.delete(name="dyn", namespace=NS)
    for api in dyn.resources.search(kind="Pod"):
        assert api.group_version in ("v1", "metrics.k8s.io/v1beta1"), api.group_version


def test_create_from_yaml():
    documents = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}},
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"}, "spec": {
            "schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}},
    ]
    utils.create_from_yaml(client.ApiClient(), yaml_objects=documents, namespace=NS)
    assert core.read_namespaced_service("s", NS).spec.cluster_ip.startswith("10.43.")
    assert client.BatchV1Api().read_namespaced_cron_job("c", NS).spec.concurrency_policy == "Allow"


def test_tokens_and_reviews():
    token = core.create_namespaced_service_account_token(
        "default", NS, client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600)))
    assert token.status.token.count(".") == 2
    configuration = client.Configuration.get_default_copy()
    configuration.cert_file = configuration.key_file = None
    configuration.api_key = {"authorization": f"Bearer {token.status.token}"}
    other = client.CoreV1Api(client.ApiClient(configuration))
    status = fails(403, other.list_namespaced_secret, NS)
    assert f'User "system:serviceaccount:{NS}:default" cannot list resource "secrets"' in status["message"], status
    review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(
        resource_attributes=client.V1ResourceAttributes(namespace=NS, verb="create", resource="pods")))
    answer = client.AuthorizationV1Api().create_self_subject_access_review(review)
    assert answer.status.allowed is True


for name, test in list(globals().items()):
    if name.startswith("test_"):
        begun = time.monotonic()
        test()
        print(f"{name}: {time.monotonic() - begun:.1f}s", flush=True)
