import { useEventSource } from "./useEventSource";

export function Progress({ job }) {
  const { data, status } = useEventSource(`/jobs/${job}`);
  if (status === "failed") return <p role="alert">The connection was refused. Log in again?</p>;
  if (status === "ended") return <p>Done.</p>;
  return (
    <p>
      <progress max="100" value={data?.percent ?? 0} /> {status === "connecting" && "connecting…"}
    </p>
  );
}
