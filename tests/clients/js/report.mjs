// What the suites share: reading a stream to its end, and one JSON line per check.

export async function gathered(stream, into = []) {
  for await (const each of stream) into.push(each);
  return into;
}

export async function report(checks) {
  for (const [name, check] of checks) {
    let problem = null;
    try {
      await check();
    } catch (error) {
      problem = String(error.stack ?? error);
    }
    console.log(JSON.stringify({ name, problem }));
  }
}
