defmodule PowRedisCache.RenewalGraceTest do
  # Pow's plugs over HTTP on two VMs that do not know each other. With Pow, or where it is not available,
  # with the modules that stand in for it.
  use PowRedisCache.Case, async: true

  alias Pow.Store.CredentialsCache
  alias PowPersistentSession.Store.PersistentSessionCache
  alias PowRedisCache.{Browser, Gate, PowApp, Sessions}
  alias PowRedisCache.PowDevice.{User, Users}

  defmodule Backend do
    use PowRedisCache
  end

  @moduletag :integration
  @moduletag instance: [name: Backend, index: :sessions]

  @requests 8
  # Every session is due, also within the millisecond.
  @due [session_ttl_renewal: -1]

  setup_all do
    options = [
      connect_option(:persistent_term.get(RedisServer)),
      timeout: 60_000,
      index: :sessions,
      seal: seal()
    ]

    [vms: for(_number <- 1..2, do: start_vm(options))]
  end

  setup context do
    # Tests share the server, and each has namespaces of its own.
    config = [
      user: User,
      users_context: Users,
      extensions: [PowPersistentSession],
      cache_store_backend: PowRedisCache,
      credentials_cache_store: {CredentialsCache, namespace: context.namespace},
      persistent_session_store: {PersistentSessionCache, namespace: context.namespace <> "t"}
    ]

    [config: config, pow: Keyword.put(config, :cache_store_backend, Backend)]
  end

  describe "without the plug" do
    test "each VM renews the session, and a tab whose response comes last is logged out",
         context do
      old = log_in(context, "/login")

      renewals =
        for {request, held} <- Enum.map(start_apps(context, @due, nil), &hold(old, &1, "/")) do
          Gate.let_go(held)
          Task.await(request, 60_000)
        end

      assert [[_cookie], [_other]] = Enum.map(renewals, & &1.cookies)
      assert visit(context, Browser.take(old, renewals)) == "1"
      assert visit(context, Browser.take(old, Enum.reverse(renewals))) == "nobody"
    end

    test "each VM uses the token, and leaves a token behind", context do
      old = context |> log_in("/keep") |> without_session()
      responses = burst(old, start_apps(context, @due, nil), "/", "page")
      assert [_, _] = Enum.filter(responses, &(&1.cookies != []))
      assert [_token, _other] = tokens(context)
    end

    test "requests with the old cookie get no user", context do
      old = log_in(context, "/login")
      [app, other] = start_apps(context, @due, nil)
      assert %{body: "1"} = Browser.get(old, app, "/")
      assert %{body: "nobody"} = Browser.get(old, other, "/")
    end
  end

  describe "concurrent requests" do
    for {title, login, state} <- [
          {"a session that is due", "/login", :due},
          {"a session that is due, and a token", "/keep", :due},
          {"a token", "/keep", :without_session},
          {"a token and an expired session", "/keep", :expired}
        ],
        {place, when_} <- [{"before", "arrive"}, {"page", "are answered"}],
        path <- ["/", "/flash"] do
      test "with #{title} to #{path} that #{when_} together", context do
        old = log_in(context, unquote(login)) |> in_state(unquote(state), context)
        responses = burst(old, start_apps(context, @due), unquote(path), unquote(place))

        assert Enum.map(responses, & &1.body) == List.duplicate("1", @requests)
        assert [renewal] = Enum.filter(responses, &(&1.cookies != []))
        assert [_session] = sessions(context)
        assert length(tokens(context)) == if(unquote(login) == "/keep", do: 1, else: 0)

        # Whichever response the browser takes last, it is logged in where no record helps.
        for last <- responses do
          new = Browser.take(old, (responses -- [last]) ++ [last])
          assert new == Browser.take(old, renewal)
          assert visit(context, new) == "1"
        end

        assert visit(context, without_token(Browser.take(old, renewal))) == "1"
      end
    end

    test "get the user while another renews, and renew nothing", context do
      old = log_in(context, "/login")
      [app, other] = apps = start_apps(context, @due)
      {renewal, held} = hold(old, app, "/")

      for app <- [other, other, app],
          path <- ["/", "/flash"],
          do: assert(%{body: "1", cookies: []} = Browser.get(old, app, path))

      assert [session] = sessions(context)
      Gate.let_go(held)
      assert %{body: "1", cookies: [_cookie]} = Task.await(renewal, 60_000)
      assert [renewed] = sessions(context)
      assert renewed != session
      for app <- apps, do: assert(%{body: "1", cookies: []} = Browser.get(old, app, "/"))
    end

    test "get the user after a renewal has crashed", context do
      old = log_in(context, "/login")
      [app, other] = start_apps(context, @due)
      Process.flag(:trap_exit, true)
      {renewal, held} = hold(old, app, "/")
      Gate.crash(held)
      Task.shutdown(renewal)
      assert %{body: "1", cookies: []} = Browser.get(old, other, "/")

      # The claim expires. Then another request renews.
      Wait.until(fn -> match?(%{body: "1", cookies: [_]}, Browser.get(old, other, "/")) end)
      assert [_session] = sessions(context)
    end
  end

  describe "an old cookie" do
    test "leads to the new session as long as the grace lasts, and makes nothing", context do
      for login <- ["/login", "/keep"] do
        old =
          log_in(context, login)
          |> in_state(if(login == "/keep", do: :without_session, else: :due), context)

        [app, other] = start_apps(context, @due)
        new = Browser.take(old, Browser.get(old, app, "/"))
        before = {sessions(context), tokens(context)}

        for path <- ["/", "/flash", "/flash"],
            app <- [app, other],
            do: assert(%{body: "1", cookies: []} = Browser.get(old, app, path))

        assert {sessions(context), tokens(context)} == before
        # Without the record of the renewal:
        assert visit(context, old) == "nobody"
        assert visit(context, new) == "1"
        assert Browser.get(new, start_app(context, [], 60), "/logout").body == "nobody"
      end
    end

    test "leads nowhere after the grace", context do
      old = log_in(context, "/login")
      [app, other] = start_apps(context, @due, 1)
      new = Browser.take(old, Browser.get(old, app, "/"))
      Wait.until(fn -> Browser.get(old, other, "/").body == "nobody" end)
      assert [_session] = sessions(context)
      assert visit(context, new) == "1"
    end

    test "leads through several renewals", context do
      old = log_in(context, "/login")
      [app, other] = start_apps(context, @due)

      new =
        Enum.reduce(1..3, old, fn _number, browser ->
          Browser.take(browser, Browser.get(browser, app, "/"))
        end)

      assert %{body: "1", cookies: []} = Browser.get(old, other, "/flash")
      assert [_session] = sessions(context)
      assert visit(context, new) == "1"
      assert Browser.get(new, app, "/logout").body == "nobody"
      assert Browser.get(old, other, "/").body == "nobody"
    end

    test "logs the new session out", context do
      for login <- ["/login", "/keep"],
          state <- [:due, :expired],
          {login, state} != {"/login", :expired} do
        old = log_in(context, login) |> in_state(state, context)
        [app, other] = start_apps(context, @due)
        new = Browser.take(old, Browser.get(old, app, "/"))
        logged_out = Browser.take(old, Browser.get(old, other, "/logout"))
        assert {sessions(context), tokens(context)} == {[], []}

        for browser <- [old, new, logged_out],
            app <- [app, other],
            do: assert(%{body: "nobody"} = Browser.get(browser, app, "/"))
      end
    end

    test "is replaced by a session that the app creates", context do
      old = log_in(context, "/login")
      [app, other] = start_apps(context, @due)
      new = Browser.take(old, Browser.get(old, app, "/"))
      updated = Browser.take(old, Browser.get(old, other, "/update"))
      assert [_session] = sessions(context)
      assert visit(context, updated) == "1"
      for browser <- [old, new], do: assert(Browser.get(browser, app, "/").body == "nobody")
    end
  end

  describe "a logout" do
    test "with the new cookie ends the grace", context do
      for login <- ["/login", "/keep"] do
        old = log_in(context, login)
        [app, other] = start_apps(context, @due)
        new = Browser.take(old, Browser.get(old, app, "/"))
        assert Browser.get(new, other, "/logout").body == "nobody"
        for app <- [app, other], do: assert(Browser.get(old, app, "/").body == "nobody")
        assert {sessions(context), tokens(context)} == {[], []}
      end
    end

    test "ends a renewal that is under way", context do
      for login <- ["/login", "/keep"],
          state <- [:due, :expired],
          {login, state} != {"/login", :expired} do
        old = log_in(context, login) |> in_state(state, context)
        [app, other] = start_apps(context, @due)
        {renewal, held} = hold(old, app, "/")
        assert Browser.get(old, other, "/logout").body == "nobody"
        Gate.let_go(held)
        assert %{body: "1"} = response = Task.await(renewal, 60_000)
        assert {sessions(context), tokens(context)} == {[], []}

        for browser <- [old, Browser.take(old, response)],
            do: assert(Browser.get(browser, other, "/").body == "nobody")
      end
    end

    for {login, state, title} <- [
          {"/login", :due, "a session"},
          {"/keep", :due, "a session with a token"},
          {"/keep", :expired, "a token"}
        ] do
      test "everywhere ends the grace, and renewals under way, of #{title}", context do
        [old, phone] =
          for _device <- 1..2,
              do: context |> log_in(unquote(login)) |> in_state(unquote(state), context)

        [app, other] = start_apps(context, @due)
        new = Browser.take(old, Browser.get(old, app, "/"))
        assert new != old
        {renewal, held} = hold(phone, app, "/")
        log_out_everywhere(context)
        assert Browser.get(old, other, "/").body == "nobody"
        Gate.let_go(held)
        phone = Browser.take(phone, Task.await(renewal, 60_000))
        assert {sessions(context), tokens(context)} == {[], []}

        for browser <- [old, new, phone],
            do: assert(%{body: "nobody"} = Browser.get(browser, other, "/"))

        # A new login is not ended.
        again = log_in(context, "/login")
        assert Browser.get(again, app, "/").body == "1"
      end
    end
  end

  defp log_out_everywhere(%{pow: pow}) do
    app = :"app#{System.unique_integer([:positive])}"
    Application.put_env(app, :pow, pow)
    on_exit(fn -> Application.delete_env(app, :pow) end)
    Sessions.log_out_everywhere(%User{id: 1}, otp_app: app)
  end

  # A VM with the code of this one, without distribution.
  defp start_vm(options) do
    paths = for path <- :code.get_path(), path != ~c".", do: [~c"-pa", path]
    {:ok, vm, _node} = :peer.start_link(%{connection: :standard_io, args: Enum.concat(paths)})

    {:ok, _applications} =
      :peer.call(vm, :application, :ensure_all_started, [:pow_redis_cache], 60_000)

    :ok = :peer.call(vm, Logger, :configure, [[level: :error]])
    # A supervisor that outlives the call.
    child = PowRedisCache.child_spec(options)

    {:ok, _instance} =
      :peer.call(vm, :supervisor, :start_child, [:kernel_safe_sup, child], 60_000)

    vm
  end

  # The ports of the app on each VM.
  defp start_apps(context, pow, grace \\ 60) do
    for vm <- context.vms do
      :peer.call(vm, PowApp, :start!, [Keyword.merge(context.config, pow), grace], 60_000)
    end
  end

  defp start_app(context, pow, grace), do: context |> start_apps(pow, grace) |> hd()

  # An app without the plug, in which no session is due.
  defp plain_app(context), do: start_app(context, [], nil)

  defp log_in(context, path) do
    browser = %Browser{}
    Browser.take(browser, Browser.get(browser, plain_app(context), path))
  end

  defp visit(context, browser), do: Browser.get(browser, plain_app(context), "/").body

  # Requests to the VMs in turn, which go on together at a place.
  defp burst(browser, apps, path, place) do
    gate = Gate.new!()

    requests =
      for {_number, app} <- Enum.zip(1..@requests, Stream.cycle(apps)),
          do: Task.async(fn -> Browser.get(browser, app, path, [Gate.header(gate, place)]) end)

    gate |> Gate.arrived(@requests) |> Gate.let_go()
    Task.await_many(requests, 60_000)
  end

  # A request that has passed through the plugs, and is held in its page.
  defp hold(browser, app, path) do
    gate = Gate.new!()
    request = Task.async(fn -> Browser.get(browser, app, path, [Gate.header(gate, "page")]) end)
    {request, Gate.arrived(gate, 1)}
  end

  defp in_state(browser, :due, _context), do: browser
  defp in_state(browser, :without_session, _context), do: without_session(browser)

  defp in_state(browser, :expired, context) do
    for session <- sessions(context), do: CredentialsCache.delete(credentials(context), session)
    browser
  end

  defp without_session(browser),
    do: update_in(browser.cookies, &Map.take(&1, ["persistent_session"]))

  defp without_token(browser),
    do: update_in(browser.cookies, &Map.delete(&1, "persistent_session"))

  defp sessions(context), do: CredentialsCache.sessions(credentials(context), %User{id: 1})

  defp tokens(context) do
    # One namespace is scanned.
    for {token, _value} <- Backend.all([namespace: context.namespace <> "t"], [:_]), do: token
  end

  defp credentials(context) do
    {CredentialsCache, store_config} = context.pow[:credentials_cache_store]
    [backend: Backend, pow_config: context.pow] ++ store_config
  end
end
