defmodule MyAppWeb.PageHTML do
  use Phoenix.Component

  def show(%{current_user: nil} = assigns) do
    ~H"""
    <p id="who">Nobody is logged in.</p>
    <p><a href="/session/new">Sign in</a> or <a href="/registration/new">register</a></p>
    """
  end

  def show(assigns) do
    ~H"""
    <p id="who">{@current_user.email} is logged in.</p>
    <ul>
      <li><a href="/devices">Your devices</a></li>
      <li><a href="/counter">A page with a connection</a></li>
    </ul>
    <.form for={%{}} action="/session" method="delete"><button>Log out</button></.form>
    """
  end
end
