defmodule PowRedisCache.RenewalsTest do
  # What a request with the plug finds and writes, in one process. With Pow, or where it is not available,
  # with the modules that stand in for it.
  use PowRedisCache.Case, async: true

  import ExUnit.CaptureLog

  alias Pow.Store.CredentialsCache
  alias PowPersistentSession.Store.PersistentSessionCache
  alias PowRedisCache.{ClientStore, PowApp, Renewals, Sessions}
  alias PowRedisCache.Plug.{RenewalGrace, TrackSession}
  alias PowRedisCache.PowDevice.{User, Users}

  defmodule Backend do
    use PowRedisCache
  end

  defmodule HookedBackend do
    # Calls the function under `:after_claim` in the process dictionary, once, when a claim has been read.
    defdelegate put(config, records), to: Backend
    defdelegate put_new(config, record), to: Backend
    defdelegate delete(config, key), to: Backend
    defdelegate all(config, match), to: Backend

    def get(config, key) do
      value = Backend.get(config, key)
      if match?({:claimed, _nonce}, value), do: Process.delete(:after_claim).()
      value
    end
  end

  defmodule EtsBackend do
    # A backend without put_new/2, in the process dictionary.
    def put(config, records) do
      for {key, value} <- List.wrap(records), do: Process.put({config[:namespace], key}, value)
      :ok
    end

    def delete(config, key) do
      Process.delete({config[:namespace], key})
      :ok
    end

    def get(config, key), do: Process.get({config[:namespace], key}, :not_found)

    def all(config, match) do
      for {{namespace, key}, value} <- Process.get(),
          namespace == config[:namespace],
          matches?(List.wrap(key), List.wrap(match)),
          do: {key, value}
    end

    defp matches?(key, match) do
      length(key) == length(match) and
        Enum.all?(Enum.zip(key, match), fn {part, pattern} -> pattern in [:_, part] end)
    end
  end

  @moduletag :integration
  @moduletag instance: [name: Backend, index: :sessions]

  @secret String.duplicate("secret key base ", 4)
  # Every session is due, also within the millisecond.
  @due [session_ttl_renewal: -1]

  setup context do
    _started_or_stand_in = Application.ensure_all_started(:plug)

    config = [
      user: User,
      users_context: Users,
      extensions: [PowPersistentSession],
      cache_store_backend: Backend,
      credentials_cache_store: {CredentialsCache, namespace: context.namespace},
      persistent_session_store: {PersistentSessionCache, namespace: context.namespace <> "t"}
    ]

    [config: config, due: config ++ @due]
  end

  describe "the options" do
    test "take a grace of 0 to 60 seconds" do
      assert RenewalGrace.init(otp_app: :app) == {10_000, [otp_app: :app]}
      assert RenewalGrace.init(grace: 60, otp_app: :app) == {60_000, [otp_app: :app]}

      for grace <- [-1, 61, 1.5, nil, "10"] do
        message =
          "expected :grace to be an integer from 0 to 60 (seconds), got: #{inspect(grace)}"

        assert_raise ArgumentError, message, fn -> RenewalGrace.init(grace: grace) end
      end
    end

    test "switch the plug off with a grace of 0", context do
      old = visit(%{}, "/login", context.config)
      new = visit(old, "/", context.due, 0)
      assert user(new, context.config) == "1"
      assert user(old, context.config, 0) == "nobody"
    end
  end

  describe "a request" do
    test "without cookies makes no call", %{config: config} do
      assert calls(fn -> assert user(%{}, config) == "nobody" end) == 0
    end

    # A hit is no call.
    @tag instance: [name: Backend, index: :sessions, near_cache: false]
    test "with a session that is not due makes the calls of Pow alone", %{config: config} do
      for path <- ["/login", "/keep"] do
        cookies = visit(%{}, path, config)
        alone = calls(fn -> assert user(cookies, config, nil) == "1" end)
        assert calls(fn -> assert user(cookies, config) == "1" end) == alone
      end
    end

    test "keeps the fingerprint and the metadata when it renews", %{config: config, due: due} do
      old = visit(%{}, "/login", config)
      new = visit(old, "/", due)
      [before, renewed] = for cookies <- [old, new], do: pass(cookies, "/", config).private

      assert before.pow_session_metadata[:fingerprint] ==
               renewed.pow_session_metadata[:fingerprint]
    end

    test "waits for a renewal that has deleted the old session", context do
      config = Keyword.put(context.due, :cache_store_backend, HookedBackend)

      for {path, cookie} <- [{"/login", "_app"}, {"/keep", "persistent_session"}] do
        old = %{} |> visit(path, context.config) |> Map.take([cookie])

        # The renewal claims, deletes, and then writes, which the test does when the request has seen the claim.
        renewal = pass(old, "/", context.due)
        Renewals.delete(context.due, ids(old, context).session_id, ids(old, context).token)
        Process.put(:after_claim, fn -> PowApp.page(renewal) end)
        assert user(old, config) == "1"
        assert Process.get(:after_claim) == nil
      end
    end

    test "does not wait for long for a renewal that does not end", context do
      old = visit(%{}, "/login", context.config)
      _renewal = pass(old, "/", context.due)
      Renewals.delete(context.due, ids(old, context).session_id, nil)
      assert user(old, context.due) == "nobody"
    end

    test "takes over a renewal that takes too long, which ends the new session in turn",
         context do
      %{due: due, config: config} = context

      for path <- ["/login", "/keep"],
          session <- [:kept, :expired],
          {path, session} != {"/login", :expired} do
        old = visit(%{}, path, config)
        if session == :expired, do: Renewals.delete(config, ids(old, context).session_id, nil)
        slow = pass(old, "/", due)
        for id <- ClientStore.ids(ids(old, context)), do: Renewals.release(due, id)
        overtaking = visit(old, "/", due)
        assert user(overtaking, config, nil) == "1"
        new = take(old, PowApp.page(slow))

        for cookies <- [old, overtaking, new], do: assert(user(cookies, config) == "1")
        assert user(new, config, nil) == "1"
        assert [_session] = CredentialsCache.sessions(credentials(context), %User{id: 1})
        assert length(tokens(context)) == if(path == "/keep", do: 1, else: 0)
        visit(new, "/logout", config)
      end
    end

    test "that does not renew after all lets another renew", context do
      old = visit(%{}, "/login", context.config)
      unanswered = pass_plug(old, context.due)
      assert visit(old, "/", context.due) == old
      Plug.Conn.send_resp(unanswered, 404, "")
      assert visit(old, "/", context.due) != old
    end

    test "with an old cookie may drop Plug's session", context do
      old = visit(%{}, "/login", context.config)
      visit(old, "/", context.due)
      conn = pass(old, "/", context.due)
      assert take(old, conn |> Plug.Conn.configure_session(drop: true) |> PowApp.page()) == %{}
    end

    test "uses no token if the app does not use the extension", context do
      old = %{} |> visit("/keep", context.config) |> Map.delete("_app")
      config = Keyword.delete(context.config, :extensions)
      assert calls(fn -> pass_plug(old, config) end) == 0
      assert [_token] = tokens(context)
    end

    test "leaves unknown users to Pow", context do
      config = context.config
      cookies = visit(%{}, "/keep", config)
      %{token: token} = ids(cookies, context)
      store_config = [namespace: context.namespace <> "t", ttl: 60_000]
      Backend.put(store_config, {token, {%User{id: 404}, []}})
      assert user(Map.delete(cookies, "_app"), config) == "nobody"
    end

    test "in which another user logs in ends the session of the first", %{
      config: config,
      due: due
    } do
      old = visit(%{}, "/login", config)
      new = visit(old, "/", due)
      other = visit(old, "/switch", config)
      assert user(other, config) == "2"
      for cookies <- [old, new], do: assert(user(cookies, config) == "nobody")
    end
  end

  describe "a logout" do
    test "on other devices keeps a renewal of this one", context do
      %{config: config, due: due} = context
      [old, other] = for _device <- 1..2, do: visit(%{}, "/keep", config)
      [renewal, ended] = for cookies <- [old, other], do: pass(cookies, "/", due)
      :ok = Sessions.log_out_others(pass(old, "/", config))
      new = take(old, PowApp.page(renewal))
      assert user(new, config) == "1"
      assert user(take(other, PowApp.page(ended)), config) == "nobody"
      assert [_session] = CredentialsCache.sessions(credentials(context), %User{id: 1})
      assert [_token] = tokens(context)
      # No renewal begins for a while, also of a session that is due.
      again = visit(%{}, "/login", config)
      :ok = Sessions.log_out_everywhere(%User{id: 1}, conn: pass(again, "/", config))
      again = visit(%{}, "/login", config)
      assert visit(again, "/", due) == again
      assert user(again, config) == "1"
    end

    test "of one device ends its renewals", context do
      %{config: config, due: due} = context
      [old, other] = for _device <- 1..2, do: visit(%{}, "/login", config)
      [renewal, others] = for cookies <- [old, other], do: pass(cookies, "/", due)
      conn = pass(old, "/", config)

      :ok =
        Sessions.log_out(%User{id: 1}, conn.private.pow_session_metadata[:fingerprint], conn: conn)

      assert user(take(old, PowApp.page(renewal)), config) == "nobody"
      assert user(take(other, PowApp.page(others)), config) == "1"
      assert [_session] = CredentialsCache.sessions(credentials(context), %User{id: 1})
    end
  end

  test "the plug that tracks sessions follows renewals and logouts", context do
    %{config: config, due: due} = context
    track = &TrackSession.call(&1, TrackSession.init([]))
    old = take(%{}, %{} |> pass("/login", config) |> track.() |> PowApp.page())
    new = take(old, old |> pass("/", due) |> track.() |> PowApp.page())
    assert take(old, old |> pass("/", due) |> track.() |> PowApp.page()) == old
    renewal = new |> pass("/", due) |> track.()
    logged_out = old |> pass("/logout", due) |> track.() |> PowApp.page()
    newest = take(new, PowApp.page(renewal))

    for cookies <- [old, new, newest, take(old, logged_out)],
        do: assert(user(cookies, config) == "nobody")

    assert CredentialsCache.sessions(credentials(context), %User{id: 1}) == []
  end

  describe "records" do
    test "of a claim exist once and expire", %{due: due} = context do
      assert Renewals.claim(due, "id")
      refute Renewals.claim(due, "id")
      Renewals.release(due, "id")
      assert Renewals.claim(due, "id")
      assert {:claimed, _nonce} = Backend.get([namespace: [context.namespace, "renewal"]], "id")
      # They do not show up among Pow's records.
      capture_log(fn -> assert Backend.all([namespace: context.namespace], [:_]) == [] end)
    end

    test "are followed, also in a circle", %{due: due} do
      Renewals.renewed(due, ["a"], %ClientStore{session_id: "b"}, 60_000)
      Renewals.renewed(due, ["b"], %ClientStore{session_id: "c", token: "t"}, 60_000)
      assert Renewals.successor(due, ["a"]) == nil
      {store, store_config} = Pow.Plug.Base.store(due)
      store.put(store_config, "d", {%User{id: 1}, [fingerprint: "f"]})
      Renewals.renewed(due, ["t"], %ClientStore{session_id: "d"}, 60_000)
      assert {"d", nil, {%User{id: 1}, [fingerprint: "f"]}} = Renewals.successor(due, ["a"])
      Renewals.renewed(due, ["c"], %ClientStore{session_id: "a"}, 60_000)
      store.delete(store_config, "d")
      assert Renewals.successor(due, ["a", "x"]) == nil
    end
  end

  test "other backends, keys and namespaces work, without put_new/2", context do
    config =
      Keyword.merge(context.config,
        cache_store_backend: EtsBackend,
        otp_app: :"app#{System.unique_integer([:positive])}",
        session_key: "session",
        persistent_session_cookie_key: "keep"
      )

    for path <- ["/login", "/keep"] do
      old = visit(%{}, path, config)
      assert Map.has_key?(old, "keep") == (path == "/keep")
      renewal = pass(old, "/", config ++ @due)
      assert visit(old, "/flash", config ++ @due) == old
      new = take(old, PowApp.page(renewal))
      assert new != old
      assert user(new, config) == "1"
      assert user(old, config) == "1"
      assert old |> Map.delete("keep") |> user(config, nil) == "nobody"
      assert visit(old, "/logout", config) |> Map.get("keep") == nil
      assert user(new, config) == "nobody"
    end
  end

  # The cookies of a browser after a request.
  defp visit(cookies, path, config, grace \\ 60),
    do: take(cookies, PowApp.page(pass(cookies, path, config, grace)))

  # What the page shows.
  defp user(cookies, config, grace \\ 60),
    do: PowApp.page(pass(cookies, "/", config, grace)).resp_body

  # A request that has passed through the plugs, and is not answered.
  defp pass(cookies, path, config, grace \\ 60),
    do: cookies |> conn(path) |> PowApp.pass(config, grace)

  defp pass_plug(cookies, config) do
    cookies
    |> conn("/")
    |> Plug.Session.call(Plug.Session.init(store: :cookie, key: "_app", signing_salt: "salt"))
    |> RenewalGrace.call(RenewalGrace.init(config))
  end

  defp conn(cookies, path) do
    conn = %{Plug.Test.conn(:get, path) | secret_key_base: @secret}

    Enum.reduce(cookies, conn, fn {name, value}, conn ->
      Plug.Test.put_req_cookie(conn, name, value)
    end)
  end

  defp take(cookies, conn) do
    Enum.reduce(conn.resp_cookies, cookies, fn
      {name, %{max_age: 0}}, cookies -> Map.delete(cookies, name)
      {name, %{value: value}}, cookies -> Map.put(cookies, name, value)
    end)
  end

  defp ids(cookies, context) do
    cookies
    |> conn("/")
    |> Plug.Session.call(Plug.Session.init(store: :cookie, key: "_app", signing_salt: "salt"))
    |> Plug.Conn.fetch_session()
    |> Plug.Conn.fetch_cookies()
    |> ClientStore.read(context.config)
  end

  defp calls(function) do
    before = Backend.info().calls
    function.()
    Backend.info().calls - before
  end

  defp tokens(context) do
    {tokens, _warning} =
      with_log(fn -> Backend.all([namespace: context.namespace <> "t"], [:_]) end)

    tokens
  end

  defp credentials(context) do
    [backend: Backend, pow_config: context.config, namespace: context.namespace]
  end
end
