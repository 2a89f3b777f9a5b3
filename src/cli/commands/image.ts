/** `virga image …` */
import { basename } from 'node:path';
import type { Command } from 'commander';
import type { ImageView } from '../../api/schemas.ts';
import { group, leaf, oneOf, type Call, type Shell } from '../call.ts';
import { confirm } from '../confirm.ts';
import { usage } from '../failure.ts';
import { each, listAll, report } from '../lists.ts';
import { downloadImage } from '../site/download.ts';
import { isUrl, openSource } from '../site/source.ts';
import { awaitImage, uploadImage } from '../site/upload.ts';
import type { Column } from '../ui/table.ts';
import { ago, bytes, collect, labelText, parseLabels, parseSeconds } from '../units.ts';

const stateOf = (image: ImageView): string => {
  const { status } = image;
  if (status.error) return `${status.state} (${status.error.message})`;
  if (status.state !== 'uploading') return status.state;
  return `uploading (${Math.floor((status.receivedBytes / Math.max(1, status.sizeBytes)) * 100)} %)`;
};

const columns: readonly Column<ImageView>[] = [
  { title: 'NAME', value: (image) => image.name, tone: 'bold' },
  { title: 'STATE', value: stateOf, tone: 'state' },
  { title: 'FORMAT', value: (image) => image.spec.format },
  { title: 'SIZE', value: (image) => bytes(image.status.stored?.sizeBytes ?? image.status.sizeBytes), right: true },
  {
    title: 'DISK',
    value: (image) => (image.status.virtualBytes === undefined ? '-' : bytes(image.status.virtualBytes)),
    right: true,
  },
  { title: 'AGE', value: (image) => ago(image.createdAt).replace(/ ago$/, ''), right: true },
  { title: 'DESCRIPTION', value: (image) => image.spec.description ?? '-', wide: true },
  { title: 'SHA-512', value: (image) => image.status.givenSha512 ?? '-', wide: true },
  { title: 'LABELS', value: (image) => labelText(image.labels), wide: true },
  { title: 'ID', value: (image) => image.id, tone: 'dim', wide: true },
];

const imageFacts = (image: ImageView): (readonly [string, string | undefined])[] => [
  ['Image', image.name],
  ['Id', image.id],
  ['State', `${stateOf(image)}, since ${ago(image.status.stateAt)}`],
  ['Description', image.spec.description],
  ['Format', `${image.spec.format}, as given; pinned for ever`],
  ['Given', `${bytes(image.status.sizeBytes)} (${image.status.sizeBytes} bytes)`],
  ['SHA-512', image.status.givenSha512],
  ['Stored', image.status.stored && `${bytes(image.status.stored.sizeBytes)} as ${image.status.stored.format}`],
  ['SHA-512', image.status.stored?.sha512],
  ['Disk', image.status.virtualBytes === undefined ? undefined : bytes(image.status.virtualBytes)],
  ['Labels', labelText(image.labels)],
  ['Owner', `${image.owner}, community ${image.community}`],
  ['Site file', image.origin],
  ['Created', `${ago(image.createdAt)} (${image.createdAt})`],
];

interface AddOptions {
  readonly name?: string;
  readonly format?: 'raw' | 'qcow2';
  readonly sha512?: string;
  readonly description?: string;
  readonly label?: string[];
  readonly wait?: boolean;
  readonly timeout?: number;
}

/** The name from a file's: `Debian_12 genericcloud.qcow2` → `debian-12-genericcloud`. */
export function nameFrom(path: string): string {
  const stem = basename(isUrl(path) ? decodeURIComponent(new URL(path).pathname) : path).replace(
    /(\.(qcow2|img|raw|iso|disk))+$/i,
    '',
  );
  const name = stem
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, 63)
    .replaceAll(/^-+|-+$/g, '');
  if (name === '') throw usage(`no name can be made from "${path}": give --name`);
  return name;
}

/** Only the ending .qcow2 says the format; raw must be said, since any bytes can be raw. */
export function formatOf(path: string, given: 'raw' | 'qcow2' | undefined): 'raw' | 'qcow2' {
  if (given !== undefined) return given;
  if (/\.qcow2$/i.test(isUrl(path) ? new URL(path).pathname : path)) return 'qcow2';
  throw usage(`say the format of ${path}: --format raw or --format qcow2 (it is never guessed from the bytes)`);
}

function parseSha512(text: string): string {
  const value = text.toLowerCase();
  if (!/^[0-9a-f]{128}$/.test(value)) throw usage('--sha512 takes 128 hexadecimal digits (see sha512sum)');
  return value;
}

async function add(call: Call<AddOptions>): Promise<void> {
  const [path = ''] = call.args;
  const { options } = call;
  const name = options.name ?? nameFrom(path);
  const format = formatOf(path, options.format);
  const source = await openSource(call.io, path);
  try {
    const sent = await uploadImage(call, source, {
      name,
      format,
      ...(options.sha512 === undefined ? {} : { sha512: options.sha512 }),
      ...(options.description === undefined ? {} : { description: options.description }),
      ...(options.label ? { labels: parseLabels(options.label) } : {}),
    });
    const ready = options.wait === false ? sent.image : await awaitImage(call, sent, options.timeout ?? 3600);
    call.out.document(ready);
    call.out.line(ready.name);
    if (ready.status.virtualBytes !== undefined)
      call.out.note(
        `${ready.name} is ready: a disk of ${bytes(ready.status.virtualBytes)}, stored in ${bytes(ready.status.stored?.sizeBytes ?? 0)}`,
      );
  } finally {
    await source.close();
  }
}

async function remove(call: Call): Promise<number> {
  await confirm(call, `This deletes the ${call.args.length > 1 ? 'images' : 'image'} ${call.args.join(', ')}`);
  const outcomes = await each(call.args, async (image) => {
    await call.client.call('image.delete', { params: { image }, ...call.change });
    return { removed: image };
  });
  return report(call, outcomes, { kind: 'image', done: 'deleted', say: (one) => `${one.name} is deleted` });
}

async function show(call: Call): Promise<void> {
  const image = await call.client.call('image.show', { params: { image: call.args[0] ?? '' }, ...call.look });
  call.out.document(image);
  call.out.facts(imageFacts(image));
}

async function rename(call: Call): Promise<void> {
  const [image = '', name = ''] = call.args;
  const renamed = await call.client.call('image.rename', { params: { image }, body: { name }, ...call.change });
  call.out.document(renamed);
  call.out.line(image === renamed.name ? `${image} has that name already` : `${image} is now ${renamed.name}`);
}

export function imageCommands(program: Command, shell: Shell): void {
  const image = group(program, 'image', 'Images: what guests are made from');
  leaf<AddOptions>(image, shell, {
    syntax: 'add <file|url>',
    summary: 'Bring an image, from a file or an address',
    detail:
      'Sent in parts; after a break, or when the same command is given once more, it goes on where it stopped. ' +
      'The site checks it and converts it to a copy without surprises; a refusal says why.',
    manner: 'act',
    options: (command) =>
      command
        .option('--name <name>', 'otherwise made from the file’s')
        .option('--format <raw|qcow2>', 'by default qcow2 for *.qcow2; raw must be said', (text) =>
          oneOf(text, ['raw', 'qcow2']),
        )
        .option('--sha512 <hex>', 'what the bytes must be', parseSha512)
        .option('--description <text>', 'shown in lists')
        .option('-l, --label <key=value>', 'label; may be repeated', collect)
        .option('--no-wait', 'do not wait until it is checked and converted')
        .option('--timeout <duration>', 'of that wait; default 1h', parseSeconds),
    examples: [
      'image add debian-12.qcow2',
      'image add disk.img --format raw --name scratch',
      'image add https://images.example.org/debian-12.qcow2 --sha512 SUM',
    ],
    run: add,
  });
  leaf<{ readonly label?: string; readonly state?: string }>(image, shell, {
    syntax: 'list [beginning]',
    summary: 'List images',
    manner: 'list',
    options: (command) =>
      command
        .option('-l, --label <selector>', 'only with these labels')
        .option('--state <state>', 'only in this state, e.g. ready'),
    examples: ['image list', 'image list --state failed'],
    run: async (call) => {
      const { label, state } = call.options;
      const { items } = await listAll(
        call.client,
        'image.list',
        { label, state, name: call.args[0] },
        call.io.interrupted,
      );
      call.out.list(items, columns, 'No images. Bring one: virga image add FILE');
      return undefined;
    },
  });
  leaf(image, shell, {
    syntax: 'show <name>',
    summary: 'Show an image',
    manner: 'look',
    examples: ['image show debian-12'],
    run: show,
  });
  leaf(image, shell, {
    syntax: 'rename <name> <new-name>',
    summary: 'Rename an image',
    manner: 'act',
    examples: ['image rename debian-12 debian-bookworm'],
    run: rename,
  });
  leaf<{ readonly force?: boolean }>(image, shell, {
    syntax: 'download <name> <file>',
    summary: 'Fetch the stored copy (qcow2) and verify it',
    detail: 'A break, or giving the command once more, goes on with FILE.part. "-" writes to standard output.',
    manner: 'look',
    options: (command) => command.option('--force', 'overwrite FILE'),
    examples: ['image download debian-12 copy.qcow2'],
    run: downloadImage,
  });
  leaf(image, shell, {
    syntax: 'delete <name...>',
    summary: 'Delete images; refused while in use, saying by whom',
    manner: 'destroy',
    examples: ['image delete debian-11'],
    run: remove,
  });
}
