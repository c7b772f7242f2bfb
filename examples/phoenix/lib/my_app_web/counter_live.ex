defmodule MyAppWeb.CounterLive do
  @moduledoc "A page that keeps a connection. It is disconnected when its session is logged out."
  use Phoenix.LiveView, layout: {MyAppWeb.Layouts, :app}

  @impl true
  def mount(_params, _session, socket), do: {:ok, assign(socket, count: 0)}

  @impl true
  def handle_event("add", _params, socket), do: {:noreply, update(socket, :count, &(&1 + 1))}

  @impl true
  def render(assigns) do
    ~H"""
    <h1>Counter</h1>
    <p id="who">{@current_user.email} is connected.</p>
    <p><output id="count">{@count}</output> <button phx-click="add">Add</button></p>
    """
  end
end
