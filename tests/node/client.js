// node client.js REQUESTS STREAMING COUNT
//
// Publishes COUNT events over a REQ socket as a Rewind 0.3 client would, listens on a SUB socket,
// reads everything back with QUERY, and prints what it saw as JSON.
const zmq = require("zeromq");

async function main([requests, streaming, countText]) {
  const count = Number(countText);
  const subscriber = new zmq.Subscriber();
  subscriber.connect(streaming);
  subscriber.subscribe();
  const requester = new zmq.Request();
  requester.connect(requests);

  const ask = async (...frames) => {
    await requester.send(frames);
    return (await requester.receive()).map((frame) => frame.toString());
  };

  // A subscription takes a moment to arrive: probe until the first message comes through.
  const received = [];
  let probes = 0;
  const listening = (async () => {
    for await (const frames of subscriber) {
      received.push(frames.map((frame) => frame.toString()));
      if (frames[2].toString() === "last") return;
    }
  })();
  while (received.length === 0 && probes++ < 200) {
    await ask("PUBLISH", "probe");
    await new Promise((done) => setTimeout(done, 20));
  }

  const replies = new Set();
  for (let n = 0; n < count; n++) replies.add((await ask("PUBLISH", `event ${n}`))[0]);
  replies.add((await ask("PUBLISH", "last"))[0]);
  await listening;

  const events = [];
  let after = "";
  for (;;) {
    const page = await ask("QUERY", after, "");
    const end = page.length % 2 === 1;
    if (end) page.pop();
    for (let i = 0; i < page.length; i += 2) events.push([page[i], page[i + 1]]);
    if (end) break;
    after = events[events.length - 1][0];
  }
  const wrong = await ask("FROB");
  console.log(JSON.stringify({ replies: [...replies], received, events, wrong }));
  requester.close();
  subscriber.close();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
