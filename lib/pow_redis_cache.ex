defmodule PowRedisCache do
  @readme Path.expand("../README.md", __DIR__)
  @external_resource @readme

  @moduledoc """
  #{@readme |> File.read!() |> String.split("<!-- moduledoc -->") |> Enum.at(1, "") |> String.trim()}

  ## Options

  Options for `{PowRedisCache, options}`. Invalid options raise `ArgumentError`.

  #{PowRedisCache.Options.docs()}

  ## Near cache

  With `near_cache: true`, `get/2` keeps records in memory, and Redis tells when one has changed
  ([client-side caching](https://redis.io/docs/latest/develop/reference/client-side-caching/)). It needs
  Redis 6.0 or Valkey, and the permission `+client|tracking`. Where Redis refuses it, all reads go to
  Redis, and a warning is logged.

    * An instance reads its own synchronous writes.
    * Two reads, one after the other, never go back in time.
    * A record that is changed, deleted or expired elsewhere is returned no longer than Redis's message
      takes to arrive.
    * If the network or Redis hangs, it is returned at most `:max_staleness` after the last check was sent
      that Redis has answered. On a cluster, that is counted from when the node knows that it has
      lost the record.
    * No record outlives its TTL.
    * After a lost connection, `FLUSHALL`, a failover or a restart, nothing is returned that was read
      before.

  `writes: :async` is excepted from the first, and Redis does not report `SWAPDB`. Records of one-time
  use, such as tokens of persistent sessions, are always read from Redis. `PowRedisCache.info/1`
  counts hits and misses.
  """

  alias PowRedisCache.{Call, Config, Error, Options, Reindex, Reseal, Server}

  if Code.ensure_loaded?(Pow.Store.Backend.Base) do
    @behaviour Pow.Store.Backend.Base
  end

  @typedoc """
  The configuration of a call. Pow passes `:namespace` (any term, `"cache"` by default) and `:ttl`
  in milliseconds. `:writes` overrides the instance's `:sync` or `:async`. `:name` selects another
  instance.
  """
  @type config :: keyword()

  @typedoc "A key: a binary, an atom, or a list of parts. A part is any term without functions."
  @type key :: term()

  @doc """
  Returns a child spec, so that a supervisor can start
  `{PowRedisCache, url: "redis://localhost:6379"}`.

  Raises `ArgumentError` if an option is invalid.
  """
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(options) do
    %{name: name, timeout: timeout} = Options.validate!(options)

    %{
      id: name,
      # Options are wrapped in a function because supervisors log start arguments, and options may
      # hold a password.
      start: {__MODULE__, :start_link, [fn -> options end]},
      # Leaves the instance time to write the queued requests before it stops.
      shutdown: timeout + 1_000
    }
  end

  @doc """
  Starts an instance. Redis need not be running: workers connect and reconnect in the background.

  Raises `ArgumentError` if an option is invalid, and `PowRedisCache.Error` with reason
  `:nif_not_loaded` if the native library cannot be loaded.
  """
  @spec start_link(keyword() | (() -> keyword())) :: GenServer.on_start()
  def start_link(options) when is_function(options, 0), do: start_link(options.())
  def start_link(options), do: options |> Options.validate!() |> Server.start_link()

  @doc """
  Writes one or more records. They expire after `:ttl` milliseconds.

      PowRedisCache.put([namespace: "credentials", ttl: :timer.minutes(30)], {"key", "value"})

  Returns `:ok` once Redis has acknowledged the records, or immediately with `writes: :async`.
  Records are not written in a transaction: if the call raises, some of them may have been written.

  Raises `PowRedisCache.Error`, `ArgumentError` if a key or value contains a function, and a
  configuration error if there is neither `:ttl` nor `:default_ttl`.
  """
  @spec put(config(), {key(), term()} | [{key(), term()}]) :: :ok
  def put(config, record_or_records), do: Call.put(name(config), config, record_or_records)

  @doc """
  Writes a record unless its key exists. Returns whether it was written.

      PowRedisCache.put_new([namespace: "locks", ttl: 5_000], {"nightly report", :crypto.strong_rand_bytes(16)})

  Of several calls at the same time, on any number of nodes, one returns `true`. Give each call a
  different value, such as random bytes: a record that exists with the very same value counts as
  written, since the call may find its own value when it is retried after a lost connection. Records
  under legacy keys are not considered. The call waits for Redis, also with `writes: :async`.

  Raises `PowRedisCache.Error`, `ArgumentError` if the key or value contains a function, and a
  configuration error if there is neither `:ttl` nor `:default_ttl`.
  """
  @spec put_new(config(), {key(), term()}) :: boolean()
  def put_new(config, record), do: Call.put_new(name(config), config, record)

  @doc """
  Deletes a key. Returns `:ok` even if the key does not exist.

  Raises `PowRedisCache.Error`.
  """
  @spec delete(config(), key()) :: :ok
  def delete(config, key), do: Call.delete(name(config), config, key)

  @doc """
  Returns the value of a key, or `:not_found`.

  Raises `PowRedisCache.Error`.
  """
  @spec get(config(), key()) :: term() | :not_found
  def get(config, key), do: Call.get(name(config), config, key)

  @doc """
  Returns the records whose keys match a pattern, sorted by key.

  `match` is a pattern as in `:ets` match specifications: `:_` matches any part, and a variable such
  as `:"$1"` matches equal parts. A key with one part is returned as that part, other keys as lists.

      PowRedisCache.all([namespace: "credentials"], [MyApp.User, :user, 1, :session, :_])

  Raises `PowRedisCache.Error`.
  """
  @spec all(config(), term()) :: [{key(), term()}]
  def all(config, match), do: Call.all(name(config), config, match)

  @doc """
  Checks that Redis replies. Returns `:ok` or `{:error, %PowRedisCache.Error{}}`.
  """
  @spec ping(atom()) :: :ok | {:error, Error.t()}
  def ping(name \\ __MODULE__) do
    Call.ping(name)
  rescue
    error in Error -> {:error, error}
  end

  @doc """
  Returns the state and the counters of an instance as a map. Counters start at 0 when the instance
  starts.

    * `:connected` - whether Redis is reachable.
    * `:server`, `:version` - address and version of the server of the latest connection, or `nil`.
    * `:topology` - `:standalone`, `:sentinel` or `:cluster`.
    * `:workers` - number of worker threads.
    * `:queue` - number of queued calls.
    * `:calls`, `:batches` - number of calls, and of the pipelines that carried them.
    * `:reconnects`, `:retries` - number of reconnects, and of calls retried after a lost connection.
    * `:near_cache` - `nil` without `:near_cache`, or a map:
      * `:tracking` - whether Redis tells what changes. If not, all reads go to Redis.
      * `:hits`, `:misses` - number of `get/2` that were answered from memory, and of those of its
        namespaces that went to Redis. `:calls` does not count the hits.
      * `:invalidations` - number of changes that Redis has reported.
      * `:ends` - how often all records became invalid at once, by reason: `:connection_lost`,
        `:flushed` (the database), `:demoted` (the server is another one, or not a primary any more),
        `:redirected` and `:slots_moved` (on a cluster), `:refused` (Redis does not track reads).
      * `:swaps` - how often half of `:max_bytes` was full, and the older half was emptied.
      * `:entries`, `:bytes` - number of records in memory, including those that are not valid any
        more, and the bytes that they take.
    * `:unopened` - number of values that were read but did not open, see `:seal`.

  Raises `PowRedisCache.Error` with reason `:not_started`.
  """
  @spec info(atom()) :: map()
  def info(name \\ __MODULE__), do: Call.info(name)

  @doc """
  Scans all keys in Redis, adds what is missing to the instance's `:index`, and renames legacy keys.

  Legacy keys are keys with atoms that Pow's example backend wrote on Erlang/OTP 25 or earlier.
  OTP 26 changed how atoms are encoded.

  It is safe to run on a live system and to run repeatedly: the next run completes an interrupted
  one. Run it again if Redis restarted or failed over during the scan, since the scan may have
  skipped keys. `mix pow_redis_cache.reindex` runs it from a shell. In a release:

      bin/my_app rpc "PowRedisCache.reindex(progress: PowRedisCache.Progress.new()) |> inspect() |> IO.puts()"

  Options:

    * `:name` - the name of the instance. Defaults to `PowRedisCache`.
    * `:dry_run` - with `true`, counts what a run would change, and writes nothing.
    * `:prune` - with `true`, also deletes the index sets that no pattern of `:index` uses. Do so only
      when no server uses them any more: neither Pow's example backend nor an instance with
      another `:index`.
    * `:progress` - a function that is called after each page of keys with the counts so far and
      `:fraction`, the scanned part of the database, from `0.0` to `1.0`. See
      `PowRedisCache.Progress`.

  Returns `%{keys: scanned, indexed: added_to_the_index, renamed: renamed, skipped: skipped}`, and
  with `prune: true` also `pruned: deleted_index_sets`. Keys of other applications are not counted,
  but Redis keys with more than 64 parts or 16 kB are counted as skipped. The scan may return a key
  twice, and then counts it twice.

  On a cluster, it scans all primaries, one after the other, and starts again if slots moved
  meanwhile. A legacy key is copied to the slot of its new name with its remaining time, and deleted
  when the copy is known to be right.

  Raises `ArgumentError` if an option is invalid, and `PowRedisCache.Error`. After an error, run it
  again.
  """
  @spec reindex(keyword()) :: %{
          required(:keys) => non_neg_integer(),
          required(:indexed) => non_neg_integer(),
          required(:renamed) => non_neg_integer(),
          required(:skipped) => non_neg_integer(),
          optional(:pruned) => non_neg_integer()
        }
  def reindex(options \\ []), do: Reindex.run(options)

  @doc """
  Scans all keys in Redis, and writes the values again that are not in the form in which the instance
  writes them: sealed with the first key of `:seal`, or with `write: :plain`, not sealed.

  It is safe to run on a live system and to run repeatedly: the next run completes an interrupted
  one. A value that is put or deleted meanwhile is left as it is, and the remaining time is kept.
  Values that do not open are left too, and so are plain ones with `plain: :refuse`.

  It needs the permission for the Redis command `EVAL` (`+eval`), which calls do not need.
  `mix pow_redis_cache.reseal` runs it from a shell. In a release:

      bin/my_app rpc "PowRedisCache.reseal(progress: PowRedisCache.Progress.new()) |> inspect() |> IO.puts()"

  Options:

    * `:name` - the name of the instance. Defaults to `PowRedisCache`.
    * `:dry_run` - with `true`, counts what a run would change, and writes nothing.
    * `:progress` - a function that is called after each page of keys, as for `reindex/1`.

  Returns `%{keys: scanned, resealed: written_again, changed: changed_meanwhile, unopened: unopened,
  skipped: skipped}`. `:resealed` includes `:changed`: if that is not 0, a server may still write the
  former form. Keys of other applications are not counted, but Redis keys with more than 64 parts or
  16 kB are counted as skipped. The scan may return a key twice, and then counts it twice.

  Raises `ArgumentError` if an option is invalid or the instance has no `:seal`, and
  `PowRedisCache.Error`. After an error, run it again.
  """
  @spec reseal(keyword()) :: %{
          keys: non_neg_integer(),
          resealed: non_neg_integer(),
          changed: non_neg_integer(),
          unopened: non_neg_integer(),
          skipped: non_neg_integer()
        }
  def reseal(options \\ []), do: Reseal.run(options)

  @doc """
  Defines a cache store backend with its own instance, for apps with more than one Redis server.

      defmodule MyApp.AdminSessions do
        use PowRedisCache
      end

  Start it with `{MyApp.AdminSessions, url: ...}`, and give Pow `cache_store_backend:
  MyApp.AdminSessions`.
  """
  defmacro __using__(_options) do
    quote do
      if Code.ensure_loaded?(Pow.Store.Backend.Base) do
        @behaviour Pow.Store.Backend.Base
      end

      @doc false
      def child_spec(options) do
        options |> PowRedisCache.Options.named(__MODULE__) |> PowRedisCache.child_spec()
      end

      @doc false
      def start_link(options) do
        options |> PowRedisCache.Options.named(__MODULE__) |> PowRedisCache.start_link()
      end

      @doc false
      def put(config, records), do: config |> named() |> PowRedisCache.put(records)
      @doc false
      def put_new(config, record), do: config |> named() |> PowRedisCache.put_new(record)
      @doc false
      def delete(config, key), do: config |> named() |> PowRedisCache.delete(key)
      @doc false
      def get(config, key), do: config |> named() |> PowRedisCache.get(key)
      @doc false
      def all(config, match), do: config |> named() |> PowRedisCache.all(match)
      @doc false
      def ping, do: PowRedisCache.ping(__MODULE__)
      @doc false
      def info, do: PowRedisCache.info(__MODULE__)
      @doc false
      def reindex(options \\ []), do: options |> named() |> PowRedisCache.reindex()
      @doc false
      def reseal(options \\ []), do: options |> named() |> PowRedisCache.reseal()

      defp named(options), do: Keyword.put(options, :name, __MODULE__)
    end
  end

  # What is passed instead of a configuration may be a session: no stack trace shows it.
  defp name(config) when is_list(config), do: Config.own(config, :name, __MODULE__)
  defp name(_other), do: raise(ArgumentError, "expected the configuration to be a keyword list")
end
