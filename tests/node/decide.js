// node decide.js REQUESTS TAG
//
// Reads what has happened with a tag, decides, and appends under the condition that nothing has
// happened since: twice with the same knowledge, so that the second is refused. Prints what it was answered,
// as JSON. Everything here is from docs/protocol.rst.
const zmq = require("zeromq");
const { encode, decode } = require("./msgpack.js");

async function main([requests, tag]) {
  const requester = new zmq.Request();
  requester.connect(requests);
  const ask = async (command, body) => {
    await requester.send([command, "1", encode(body)]);
    const [status, , reply, chunk] = await requester.receive();
    return { status: status.toString(), body: decode(reply), records: chunk ? decode(chunk) : null };
  };

  const query = [{ tags: [tag], types: ["placed"] }];
  const records = [];
  let after = 0;
  for (;;) {
    const page = await ask("READ", { query, after, limit: 2 });
    records.push(...page.records);
    after = page.body.next;
    if (page.body.end) break;
  }
  const decided = {
    events: [[null, "order-3", "placed", [tag], { source: "node" }, Buffer.from("{}")]],
    conditions: [{ fail_if_events_match: query, after }],
    cursors: { node: { position: after, expected: 0 } },
  };
  const stored = await ask("APPEND", decided);
  const refused = await ask("APPEND", decided);
  const cursor = await ask("CURSORS", { name: "node" });
  console.log(
    JSON.stringify({
      read: records.map((record) => [record[0], record[3]]),
      after,
      stored: [stored.status, stored.body.first, stored.body.versions],
      refused: [refused.status, refused.body.code, refused.body.condition, refused.body.position],
      cursor: cursor.body.cursors[0].slice(0, 2),
    }),
  );
  requester.close();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
