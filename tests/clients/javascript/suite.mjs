// The JavaScript client (`@kubernetes/client-node` on npm) against a cluster: what its users do, asserted on.
// KUBECONFIG and the namespace NS come from the environment.

import assert from 'node:assert/strict';
import { Writable, Readable } from 'node:stream';
import * as k8s from '@kubernetes/client-node';

const namespace = process.env.NS;
const kc = new k8s.KubeConfig();
kc.loadFromDefault();
const core = kc.makeApiClient(k8s.CoreV1Api);
const apps = kc.makeApiClient(k8s.AppsV1Api);

/** The Status of a call that must fail with this code. */
async function fails(code, promise) {
    try {
        await promise;
    } catch (error) {
        assert.equal(error.code, code, String(error.body ?? error));
        const status = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
        assert.equal(status.kind, 'Status');
        return status;
    }
    assert.fail(`no failure, ${code} was expected`);
}

/** Collects what is written to it. */
function sink() {
    const chunks = [];
    const stream = new Writable({ write(chunk, _, done) { chunks.push(chunk); done(); } });
    stream.text = () => Buffer.concat(chunks).toString();
    return stream;
}

async function until(what, check) {
    for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((r) => setTimeout(r, 100))) {
        if (await check()) return;
    }
    assert.fail(`waited in vain for ${what}`);
}

const configMap = (name, data, labels) => ({ metadata: { name, labels }, data });
const withType = (type) => k8s.setHeaderOptions('Content-Type', type);

const tests = {
    async discovery() {
        assert.match((await kc.makeApiClient(k8s.VersionApi).getCode()).gitVersion, /^v1\.36\./);
        const groups = (await kc.makeApiClient(k8s.ApisApi).getAPIVersions()).groups.map((g) => g.name);
        assert.ok(groups.includes('apps') && groups.includes('networking.k8s.io'), String(groups));
        const resources = (await apps.getAPIResources()).resources.map((r) => r.name);
        assert.ok(resources.includes('deployments/scale'), String(resources));
    },

    async objects() {
        const made = await core.createNamespacedConfigMap({ namespace, body: configMap('a', { x: '1' }) });
        assert.ok(made.metadata.uid && made.metadata.creationTimestamp instanceof Date);
        made.data.x = '2';
        const replaced = await core.replaceNamespacedConfigMap({ name: 'a', namespace, body: made });
        assert.deepEqual(replaced.data, { x: '2' });
        const stale = await fails(409, core.replaceNamespacedConfigMap({ name: 'a', namespace, body: made }));
        assert.match(stale.message, /the object has been modified/);
        const missing = await fails(404, core.readNamespacedConfigMap({ name: 'none', namespace }));
        assert.deepEqual(missing.details, { name: 'none', kind: 'configmaps' });
        const invalid = await fails(422, core.createNamespacedConfigMap({ namespace, body: configMap('A_B') }));
        assert.equal(invalid.details.causes[0].field, 'metadata.name');
        const dry = await core.createNamespacedConfigMap({ namespace, body: configMap('dry'), dryRun: 'All' });
        assert.ok(dry.metadata.uid);
        await fails(404, core.readNamespacedConfigMap({ name: 'dry', namespace }));
        const gone = await core.deleteNamespacedConfigMap({ name: 'a', namespace });
        assert.equal(gone.status, 'Success');
    },

    async patches() {
        const labels = { a: 'b' };
        const containers = [{ name: 'one', image: 'one:1' }, { name: 'two', image: 'two:1' }];
        const body = { metadata: { name: 'd' }, spec: { replicas: 0, selector: { matchLabels: labels },
            template: { metadata: { labels }, spec: { containers } } } };
        await apps.createNamespacedDeployment({ namespace, body, fieldManager: 'maker' });
        const patch = (type, body, more) =>
            apps.patchNamespacedDeployment({ name: 'd', namespace, body, ...more }, withType(type));
        const strategic = await patch(k8s.PatchStrategy.StrategicMergePatch,
            { spec: { template: { spec: { containers: [{ name: 'two', image: 'two:2' }] } } } });
        assert.deepEqual(strategic.spec.template.spec.containers.map((c) => c.image).sort(), ['one:1', 'two:2']);
        const json = await patch(k8s.PatchStrategy.JsonPatch, [{ op: 'replace', path: '/spec/replicas', value: 2 }]);
        assert.equal(json.spec.replicas, 2);
        const merge = await patch(k8s.PatchStrategy.MergePatch, { metadata: { annotations: { n: 'o' } } });
        assert.equal(merge.metadata.annotations.n, 'o');
        const config = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'd' }, spec: { replicas: 5 } };
        const conflict = await fails(409, patch(k8s.PatchStrategy.ServerSideApply, config, { fieldManager: 'me' }));
        assert.equal(conflict.details.causes[0].field, '.spec.replicas');
        const applied = await patch(k8s.PatchStrategy.ServerSideApply, config, { fieldManager: 'me', force: true });
        assert.equal(applied.spec.replicas, 5);
        const scale = await apps.readNamespacedDeploymentScale({ name: 'd', namespace });
        assert.equal(scale.spec.replicas, 5);
        await apps.deleteNamespacedDeployment({ name: 'd', namespace, propagationPolicy: 'Background' });
    },

    async pages() {
        for (let n = 0; n < 5; n++) {
            await core.createNamespacedConfigMap({ namespace, body: configMap(`page-${n}`, {}, { page: 'yes' }) });
        }
        const names = [];
        let _continue;
        do {
            const page = await core.listNamespacedConfigMap({ namespace, labelSelector: 'page in (yes)', limit: 2, _continue });
            names.push(...page.items.map((i) => i.metadata.name));
            _continue = page.metadata._continue;
        } while (_continue);
        assert.deepEqual(names, [0, 1, 2, 3, 4].map((n) => `page-${n}`));
        const bad = await fails(400, core.listNamespacedConfigMap({ namespace, _continue: 'x' }));
        assert.match(bad.message, /continue key is not valid/);
        await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: 'page' });
    },

    async watch() {
        const path = `/api/v1/namespaces/${namespace}/configmaps`;
        const list = await core.listNamespacedConfigMap({ namespace });
        const seen = [];
        const watch = new k8s.Watch(kc);
        const query = { labelSelector: 'watched', resourceVersion: list.metadata.resourceVersion, allowWatchBookmarks: true };
        const controller = await watch.watch(path, query, (type) => seen.push(type), () => {});
        await core.createNamespacedConfigMap({ namespace, body: configMap('w', {}, { watched: 'yes' }) });
        await core.patchNamespacedConfigMap({ name: 'w', namespace, body: { data: { n: '1' } } },
            withType(k8s.PatchStrategy.MergePatch));
        await core.deleteNamespacedConfigMap({ name: 'w', namespace });
        await until('three events', () => seen.length >= 3);
        controller.abort();
        assert.deepEqual(seen, ['ADDED', 'MODIFIED', 'DELETED']);
        const informer = k8s.makeInformer(kc, path, () => core.listNamespacedConfigMap({ namespace }));
        await informer.start();
        await core.createNamespacedConfigMap({ namespace, body: configMap('informed') });
        await until('the informer', () => informer.get('informed', namespace) !== undefined);
        await informer.stop();
    },

    async pods() {
        const command = ['sh', '-c', 'echo one; echo two; sleep 10000'];
        const spec = { containers: [{ name: 'main', image: 'busybox:1.36', command }], terminationGracePeriodSeconds: 0 };
        await core.createNamespacedPod({ namespace, body: { metadata: { name: 'p' }, spec } });
        await until('the pod', async () =>
            (await core.readNamespacedPodStatus({ name: 'p', namespace })).status.phase === 'Running');
        await until('the log', async () =>
            (await core.readNamespacedPodLog({ name: 'p', namespace })) === 'one\ntwo\n');
        const followed = sink();
        const following = await new k8s.Log(kc).log(namespace, 'p', 'main', followed, { follow: true });
        await until('the log followed', () => followed.text() === 'one\ntwo\n');
        following.abort();
        const run = (command, stdin) => {
            const [out, err] = [sink(), sink()];
            return new Promise((resolve, reject) => {
                new k8s.Exec(kc).exec(namespace, 'p', 'main', command, out, err, stdin, false,
                    (status) => resolve({ status, out: out.text(), err: err.text() })).catch(reject);
            });
        };
        const good = await run(['sh', '-c', 'echo out; echo err >&2'], null);
        assert.deepEqual([good.status.status, good.out, good.err], ['Success', 'out\n', 'err\n']);
        const bad = await run(['sh', '-c', 'exit 7'], null);
        assert.equal(bad.status.details.causes.find((c) => c.reason === 'ExitCode').message, '7');
        const typed = await run(['sh'], Readable.from(['echo typed\nexit\n']));
        assert.equal(typed.out, 'typed\n');
        await core.deleteNamespacedPod({ name: 'p', namespace, gracePeriodSeconds: 0 });
    },

    async anyKind() {
        const objects = k8s.KubernetesObjectApi.makeApiClient(kc);
        const object = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's', namespace }, stringData: { a: 'b' } };
        const made = await objects.create(object);
        assert.equal(made.data.a, 'Yg==');
        const patched = await objects.patch({ ...object, stringData: { a: 'c' } }, undefined, undefined, 'me', undefined,
            k8s.PatchStrategy.MergePatch);
        assert.equal(patched.data.a, 'Yw==');
        assert.equal((await objects.read(object)).metadata.name, 's');
        const listed = await objects.list('v1', 'Secret', namespace);
        assert.deepEqual(listed.items.map((i) => i.metadata.name), ['s']);
        await objects.delete(object);
        const status = await fails(404, objects.read(object));
        assert.equal(status.reason, 'NotFound');
    },
};

for (const [name, test] of Object.entries(tests)) {
    const begun = Date.now();
    await test();
    console.log(`${name}: ${((Date.now() - begun) / 1000).toFixed(1)}s`);
}
// Watches that were ended may leave connections open.
process.exit(0);
